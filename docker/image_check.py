"""`make image-check`: builds the Dockerfile without a Docker engine and proves the image (Debian or Ubuntu, as root).

buildah builds it on a base of debootstrap's Debian 12; runc runs it as the image's user with a read-only root and no
capabilities; a photograph is restored through it; SIGTERM ends it with 0.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from docker.check import check, free_port, need, run, wait_until_ready
from docker.image_build import IMAGE, Store, build, make_base, sizes
from docker.photo import degraded_photo
from service.client import Client, ServiceError
from service.keys import new_key

COMPILERS = "cc gcc g++ clang make"
LEFTOVERS = "/root/.cache /opt/honestface/bin/pip /var/cache/honestface/.cache /src"
NAME = "honestface-check"


def main() -> None:
    if os.geteuid():
        sys.exit("image-check builds root file systems: run it as root")
    for tool in ("buildah", "debootstrap", "runc"):
        need(tool, tool)
    work = Path(tempfile.mkdtemp(prefix="honestface-image-", dir="/var/tmp"))
    store = Store(work)
    try:
        make_base(store)
        build(store, work)
        tree = Path(store("mount", store("from", IMAGE)))
        prove(tree, store.config(), work)
        sizes(store, tree, work)
        print("the image is as it should be")
    finally:
        store("rm", "--all")
        shutil.rmtree(work)


def prove(tree: Path, config: dict[str, Any], work: Path) -> None:
    """Runs the image as an orchestrator would, and asks it for everything that it promises."""
    key, hashed = new_key()
    url = f"http://127.0.0.1:{free_port()}"
    bundle = write_bundle(tree, config, work, url, hashed)
    log = work / "service.log"
    with log.open("w") as out:
        child = subprocess.Popen(["runc", "run", "--bundle", bundle, NAME], stdout=out, stderr=out)
    try:
        wait_until_ready(url, child, log)
        left = inside(
            "sh", "-c", f"for each in {COMPILERS}; do command -v $each; done; ls -d {LEFTOVERS} 2>/dev/null; true"
        )
        check(not left, f"no compiler, no pip and no pip cache of ours inside: {left or 'none'}")
        check(inside("id", "-u") == "10001", "runs as uid 10001")
        check(inside("sh", "-c", "touch /usr/x 2>&1; true").endswith("Read-only file system"), "the root is read-only")
        health = config["Healthcheck"]["Test"]
        check(health[0] == "CMD" and "readyz" in health[-1], "the health check asks /readyz")
        inside(*health[1:])
        try:
            Client(url).models()
            check(False, "a request without a key is refused")
        except ServiceError as refusal:
            check(refusal.status == 401, "the API key comes from /run/secrets")
        if "EXTRAS" not in os.environ:
            running = Client(url, api_key=key).models()[0]["precision"]
            check(running.endswith("OpenVINO"), f"the generator runs as: {running}")
        restore(url, key)
        child.send_signal(signal.SIGTERM)
        check(child.wait(40) == 0, "SIGTERM ends it with 0")
    finally:
        child.kill()
        subprocess.run(["runc", "delete", "--force", NAME], capture_output=True)


def write_bundle(tree: Path, config: dict[str, Any], work: Path, url: str, hashed: str) -> str:
    """An OCI runtime bundle from the image's configuration: read-only root, no capabilities, the host's network."""
    bundle, cache, secrets = work / "bundle", work / "cache", work / "secrets"
    for folder in (bundle, cache, secrets):
        folder.mkdir()
    os.chown(cache, 10001, 10001)
    (secrets / "honestface_api_keys").write_text(hashed + "\n")
    run("runc", "spec", "--bundle", str(bundle))
    spec = json.loads((bundle / "config.json").read_text())
    user, group = str(config["User"]).split(":")
    environment = {"HONESTFACE_HOST": "127.0.0.1", "HONESTFACE_PORT": url.rpartition(":")[2]}
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": int(user), "gid": int(group)},
        "args": [*config["Entrypoint"], *config["Cmd"]],
        "env": [*config["Env"], *(f"{name}={value}" for name, value in environment.items())],
        "cwd": config["WorkingDir"],
        "capabilities": {},
        "noNewPrivileges": True,
    }
    spec["root"] = {"path": str(tree), "readonly": True}
    spec["mounts"] += [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
        {"destination": "/run/secrets", "type": "bind", "source": str(secrets), "options": ["bind", "ro"]},
        {"destination": "/var/cache/honestface", "type": "bind", "source": str(cache), "options": ["bind", "rw"]},
    ]
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    (bundle / "config.json").write_text(json.dumps(spec))
    return str(bundle)


def inside(*command: str) -> str:
    return run("runc", "exec", NAME, *command)


def restore(url: str, key: str) -> None:
    """A photograph goes in and comes out with another face."""
    photo = degraded_photo()
    started = time.monotonic()
    restored = Client(url, api_key=key).restore(photo)
    seconds = time.monotonic() - started
    before = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"), np.float64)
    after = np.asarray(Image.open(io.BytesIO(restored.picture)).convert("RGB"), np.float64)
    changed = np.abs(before - after).mean() if before.shape == after.shape else 0.0
    check(
        len(restored.faces) == 1 and changed > 0.1,
        f"restored a photograph in {seconds:.2f} s (changed by {changed:.2f} levels)",
    )


if __name__ == "__main__":
    main()
