import pytest
import torch
from torch import Tensor

from models import openvino_generator, runtime
from models.bundle import load_bundle
from models.choices import Library, Precision
from models.errors import HonestFaceError
from models.openvino_generator import OpenVINOGenerator
from models.precision import cpu_multiplies_bfloat16
from models.references import Reference, References
from models.runtime import make_runtime, usable_cores
from tests.models.drawn_face import drawn_landmarks
from tests.small_generator import SMALL_SD21, faces, identities, landmarks, references, small_generator

LEVEL = 2 / 255


def test_torch_in_full_precision_is_the_generator_itself() -> None:
    generator = small_generator()
    found = make_runtime(generator, "float32", "torch")
    assert found.generator is generator and found.description == "float32, PyTorch"
    assert {parameter.dtype for parameter in generator.parameters()} == {torch.float32}


@torch.inference_mode()
def test_lower_precision_stays_near_and_keeps_the_blind_baseline() -> None:
    exact = small_generator()
    found = make_runtime(small_generator(), "bfloat16", "torch")
    assert found.description == "bfloat16, PyTorch"
    own = References.pack([references(2)])
    arguments = (faces(1), own, landmarks(1), identities(1))
    difference = found.generator(*arguments).restored - exact(*arguments).restored
    assert 0 < difference.abs().mean() < 0.5 * LEVEL
    mixed = References.pack([references(2), ()])
    both = found.generator(faces(2), mixed, landmarks(2), identities(2)).restored
    assert torch.equal(both[1:], found.generator(faces(2)).restored[1:]), "no references is the blind baseline"


@torch.inference_mode()
def test_a_kl_autoencoder_keeps_its_precision() -> None:
    exact, lower = small_generator(SMALL_SD21), small_generator(SMALL_SD21)
    make_runtime(lower, "bfloat16")
    assert {parameter.dtype for parameter in lower.vae.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in lower.unet.parameters()} == {torch.bfloat16}
    assert (lower(faces(1)).restored - exact(faces(1)).restored).abs().mean() < 2 * LEVEL


@pytest.mark.slow
@torch.inference_mode()
def test_the_shipped_bundle_keeps_within_half_a_grey_level() -> None:
    lq, picture = pictures(0), pictures(1)
    person = torch.nn.functional.normalize(torch.ones(1, 128), dim=1)
    reference = Reference(picture[0], drawn_landmarks(1), person[0])  # the same person: the reference's gate is open
    arguments = (lq, References.pack([[reference]]), drawn_landmarks(0)[None], person)
    bundle = load_bundle()
    exact, ranges = bundle.generator(*arguments).restored, bundle.manifest.activation_ranges
    ways: list[tuple[Precision, Library]] = [("bfloat16", "torch"), ("int8", "openvino")]
    if cpu_multiplies_bfloat16():
        ways.append(("bfloat16", "openvino"))
    for precision, library in ways:
        found = make_runtime(load_bundle().generator, precision, library, threads=1, ranges=ranges)
        assert (found.generator(*arguments).restored - exact).abs().mean() < 0.5 * LEVEL, (precision, library)
        assert torch.equal(found.generator(lq).restored, found.generator(lq).restored)


def pictures(seed: int) -> Tensor:
    """A smooth picture `[1, 3, 512, 512]` in [-1, 1]."""
    coarse = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (512, 512), mode="bicubic").clamp(-1, 1)


def test_auto_follows_the_cpu_and_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, name in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(runtime, "cpu_multiplies_bfloat16", lambda native=native: native)
        monkeypatch.setattr(openvino_generator, "find_spec", lambda name: None)
        assert make_runtime(small_generator()).description == f"{name}, PyTorch"
        monkeypatch.undo()
    found = make_runtime(small_generator(), threads=1)
    assert isinstance(found.generator, OpenVINOGenerator) and found.description.endswith(", OpenVINO")


def test_auto_is_int8_where_the_cpu_multiplies_that_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "cpu_multiplies_bfloat16", lambda: False)
    monkeypatch.setattr(runtime, "cpu_multiplies_int8", lambda: True)
    ranges = {"unet.encoder.levels.1.0.conv1": (-1.0, 1.0)}
    assert make_runtime(small_generator(), threads=1, ranges=ranges).description == "int8, OpenVINO"
    assert make_runtime(small_generator(), threads=1).description == "float32, OpenVINO"
    assert make_runtime(small_generator(), library="torch", ranges=ranges).description == "float32, PyTorch"
    monkeypatch.setattr(runtime, "cpu_multiplies_int8", lambda: False)
    assert make_runtime(small_generator(), threads=1, ranges=ranges).description == "float32, OpenVINO"


def test_int8_by_name_is_not_replaced_silently() -> None:
    for library, ranges in (("torch", {}), ("auto", None)):
        with pytest.raises(HonestFaceError, match="bundle with activation ranges"):
            make_runtime(small_generator(), "int8", library, ranges=ranges)  # type: ignore[arg-type]
    with pytest.raises(HonestFaceError, match="int8 is for a CPU"):
        make_runtime(small_generator(), "int8", device="meta")


def test_openvino_by_name_is_not_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HonestFaceError, match="tiny bundle"):
        make_runtime(small_generator(SMALL_SD21), library="openvino")
    monkeypatch.setattr(openvino_generator, "find_spec", lambda name: None)
    with pytest.raises(HonestFaceError, match="extra `fast`"):
        make_runtime(small_generator(), library="openvino")


def test_half_precision_is_refused_on_a_cpu() -> None:
    with pytest.raises(HonestFaceError, match="float16 is for a GPU"):
        make_runtime(small_generator(), "float16")


def test_only_the_cores_that_this_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert usable_cores() == 2
