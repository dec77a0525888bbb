import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from models.bundle import MANIFEST, TINY_BUNDLE, Bundle, load_bundle, read_manifest, verify_bundle
from models.errors import BundleError, HonestFaceError
from models.face_restorer import FaceJob, FaceRestorer
from models.geometry import Pixels
from models.honestface import HonestFace
from models.profiles import TINY
from tests.small_generator import SMALL_SD21, small_generator
from tests.toy_faces import analyzer
from training.activation_ranges import measure_activation_ranges
from training.cli import app
from training.faces import load_faces


@pytest.mark.slow
def test_the_shipped_bundle_is_measured_anew(face_folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "tiny"
    shutil.copytree(TINY_BUNDLE, bundle)
    before = verify_bundle(bundle)
    command = ["measure-ranges", "--bundle", str(bundle), "--data", str(face_folder), "--count", "2"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    after = verify_bundle(bundle)
    assert before.activation_ranges and after.activation_ranges
    assert result.output == f"{bundle}: {len(after.activation_ranges)} convolutions measured on 2 faces\n"
    assert after.activation_ranges.keys() == before.activation_ranges.keys(), (
        "the shipped ones are of this architecture"
    )
    assert after.activation_ranges != before.activation_ranges
    assert after == before.model_copy(update={"activation_ranges": after.activation_ranges})


@pytest.mark.slow
def test_references_count_where_the_bundle_takes_them(face_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    restore = FaceRestorer.generate

    def see(self: FaceRestorer, jobs: Sequence[FaceJob]) -> list[Pixels]:
        given.append(len(jobs[0].references))
        return restore(self, jobs)

    monkeypatch.setattr(FaceRestorer, "generate", see)
    faces, bundle = load_faces(face_folder, "train"), load_bundle()
    ranges = measure_activation_ranges(bundle, faces, 2, ["vqfr-v1"])
    assert given == [0, 1, 0, 1] and any(name.startswith("reference_adapter") for name in ranges)
    assert all(low <= 0 <= high and float(f"{high:.4g}") == high for low, high in ranges.values())
    blind = HonestFace(replace(TINY, identity_embedder=None, reference_adapter=None)).eval()
    ranges = measure_activation_ranges(replace(bundle, generator=blind), faces, 1, ["vqfr-v1"])
    assert given == [0, 1, 0, 1, 0] and ranges and all(name.startswith("unet.") for name in ranges)


def test_the_papers_profile_has_none(face_folder: Path) -> None:
    bundle = Bundle(cast(Any, None), Path("own"), small_generator(SMALL_SD21), analyzer())
    with pytest.raises(HonestFaceError, match="own: activation ranges are for bundles of the tiny profile"):
        measure_activation_ranges(bundle, load_faces(face_folder, "train"), 1)


@pytest.mark.parametrize("broken", ["NaN", "[1.0]", "null, 2"])
def test_ranges_that_are_none(tmp_path: Path, broken: str) -> None:
    manifest = (TINY_BUNDLE / MANIFEST).read_text()
    start = manifest.index('"activation_ranges"')
    (tmp_path / MANIFEST).write_text(manifest[:start] + f'"activation_ranges": {{"unet.up.1.conv": [0.0, {broken}]}}}}')
    with pytest.raises(BundleError, match=r"activation_ranges\.unet\.up\.1\.conv"):
        read_manifest(tmp_path)
