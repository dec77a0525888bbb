"""The image from the Dockerfile by buildah, on a base made by debootstrap: no Docker engine and no image registry."""

import ast
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from docker.check import run

ROOT = Path(__file__).parents[1]
BASE, IMAGE = "localhost/debian-python", "localhost/honestface"


class Store:
    """buildah with its images in a folder of ours; calling it runs a buildah command and returns what it printed."""

    def __init__(self, work: Path) -> None:
        self._work = str(work)
        self._options = ("--root", str(work / "store"), "--runroot", str(work / "run"), "--storage-driver", "vfs")

    def __call__(self, *command: str) -> str:
        return run("buildah", *self._options, *command, BUILDAH_ISOLATION="chroot", TMPDIR=self._work)

    def config(self) -> dict[str, Any]:
        """The image's configuration as Docker sees it."""
        return dict(json.loads(self("inspect", "--type", "image", IMAGE))["Docker"]["config"])


def make_base(store: Store) -> None:
    """An image of Debian 12 with Python: what python:3.11-slim-bookworm is, without a registry."""
    container = store("from", "scratch")
    tree = store("mount", container)
    packages = "python3,python3-venv,ca-certificates"
    run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", tree)
    for leftover in (*Path(tree, "var/cache/apt/archives").glob("*.deb"), *Path(tree, "var/lib/apt/lists").glob("*_*")):
        leftover.unlink()
    store("commit", "--rm", container, BASE)


def build(store: Store, work: Path) -> None:
    """Builds the Dockerfile as it is; pip inside sees the indexes that pip here sees."""
    started = time.monotonic()
    mounts = [argument for mount in pip_mounts(work) for argument in ("--volume", mount)]
    arguments = ["--build-arg", f"BASE={BASE}", "--build-arg", f"REVISION={run('git', 'rev-parse', 'HEAD')}"]
    for name in ("EXTRAS", "PIP_EXTRA_INDEX_URL"):
        if name in os.environ:
            arguments += ["--build-arg", f"{name}={os.environ[name]}"]
    store("build", "--format", "docker", *arguments, *mounts, "--tag", IMAGE, str(ROOT))
    print(f"built in {time.monotonic() - started:.0f} s")


def pip_mounts(work: Path) -> list[str]:
    """pip's configuration here as a file for the build, and the local folders that it names."""
    listed = run(sys.executable, "-m", "pip", "config", "list")
    # Later sections win, as pip has it: the environment before files.
    options = {
        name: str(ast.literal_eval(value))
        for _, name, value in sorted(
            re.findall(r"^(:env:|[a-z]+)\.([a-z-]+)=(.*)$", listed, re.MULTILINE), reverse=True
        )
    }
    lines = [f"{name} = {' '.join(value.split())}" for name, value in options.items() if name != "require-virtualenv"]
    configuration = work / "pip.conf"
    configuration.write_text("[global]\n" + "\n".join(lines) + "\n")
    mounts = [f"{configuration}:/etc/pip.conf:ro"]
    for word in " ".join(options.values()).split():
        # An index in a folder has its files beside it.
        path = Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word)
        if path.is_absolute() and path.exists():
            mounts.append(f"{path}:{path}:ro")
    return list(dict.fromkeys(mounts))


def sizes(store: Store, tree: Path, work: Path) -> None:
    """Prints the size of the image's tree, unpacked, and of its layers as a registry sends them."""
    base_layers = json.loads(store("inspect", "--type", "image", BASE))["OCIv1"]["rootfs"]["diff_ids"]
    store("push", IMAGE, f"oci:{work / 'oci'}:honestface")
    index = json.loads((work / "oci" / "index.json").read_text())
    manifest = work / "oci" / "blobs" / "sha256" / index["manifests"][0]["digest"].removeprefix("sha256:")
    packed = [layer["size"] for layer in json.loads(manifest.read_text())["layers"]]
    whole, own = (size_of(path) for path in (tree, tree / "opt" / "honestface"))
    print(f"size: {whole / 1e6:.0f} MB, of it {own / 1e6:.0f} MB in /opt/honestface")
    print(f"to download: {sum(packed) / 1e6:.0f} MB, of it {sum(packed[: len(base_layers)]) / 1e6:.0f} MB the base")


def size_of(folder: Path) -> int:
    return int(run("du", "--summarize", "--bytes", "--one-file-system", str(folder)).split()[0])
