import gc
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from models.eight_bits import measured_ranges
from models.honestface import HonestFace
from models.openvino_generator import OpenVINOGenerator, can_run
from models.precision import cpu_multiplies_bfloat16
from models.references import References
from tests.small_generator import SMALL, SMALL_SD21, faces, identities, landmarks, references, small_generator

LEVEL = 2 / 255


@pytest.fixture(scope="module")
def source() -> HonestFace:
    return small_generator()


@pytest.fixture(scope="module")
def converted(source: HonestFace) -> OpenVINOGenerator:
    return OpenVINOGenerator(source, threads=1)


def packed() -> References:
    """Three images: two references, none, one."""
    known = references(3)
    found = References.pack([known[:2], (), known[2:]])
    assert found is not None
    return found


@torch.inference_mode()
def test_it_restores_like_torch(source: HonestFace, converted: OpenVINOGenerator) -> None:
    strength = torch.tensor([1.0, 0.5, 0.7])
    arguments = (faces(3), packed(), landmarks(3), identities(3), strength)
    expected, restored = source(*arguments).restored, converted(*arguments).restored
    assert (restored - expected).abs().max() < 0.01 * LEVEL
    assert (source(faces(3)).restored - expected).abs().mean() > LEVEL, "references and strength do something"


@pytest.mark.skipif(not cpu_multiplies_bfloat16(), reason="this CPU has no bfloat16")
@torch.inference_mode()
def test_bfloat16_stays_near(source: HonestFace) -> None:
    lower = OpenVINOGenerator(source, threads=1, precision="bfloat16")
    arguments = (faces(3), packed(), landmarks(3), identities(3))
    assert (lower(*arguments).restored - source(*arguments).restored).abs().mean() < LEVEL


@torch.inference_mode()
def test_int8_restores_as_the_rounded_torch_network_says(source: HonestFace) -> None:
    rounded = small_generator()
    arguments = (faces(3), packed(), landmarks(3), identities(3))
    with measured_ranges(rounded) as ranges:
        rounded(*arguments)
    converted = OpenVINOGenerator(rounded, threads=1, precision="int8", ranges=ranges)  # rounds what it is given
    difference = (converted(*arguments).restored - rounded(*arguments).restored).abs().mean()
    assert difference < 0.2 * (rounded(*arguments).restored - source(*arguments).restored).abs().mean()


def test_int8_multiplies_integers() -> None:
    code = (
        "from models.eight_bits import measured_ranges; from models.openvino_generator import OpenVINOGenerator;"
        "from tests.small_generator import faces, small_generator\n"
        "source = small_generator()\n"
        "with measured_ranges(source) as ranges: source(faces(1))\n"
        "graph = OpenVINOGenerator(source, 1, 'int8', ranges)._restore._request.get_compiled_model()\n"
        "for node in graph.get_runtime_model().get_ops():\n"
        "    told = node.get_rt_info()\n"
        "    print(told['layerType'].astype(str), told['runtimePrecision'].astype(str))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    convolutions = [line.split()[1] for line in ended.stdout.splitlines() if line.startswith("Convolution ")]
    assert sum(precision in ("i8", "u8") for precision in convolutions) >= len(convolutions) / 3, convolutions


@torch.inference_mode()
def test_a_face_depends_on_no_batch_mate(converted: OpenVINOGenerator) -> None:
    together = converted(faces(3), packed(), landmarks(3), identities(3)).restored
    own = References.pack([references(3)[2:]])
    alone = converted(faces(3)[2:], own, landmarks(3)[2:], identities(3)[2:]).restored
    assert torch.equal(together[2:], alone)
    assert torch.equal(together[1:2], converted(faces(3)[1:2]).restored), "no references is the blind baseline"


@torch.inference_mode()
def test_eyes_are_looked_at_once_and_forgotten_with_the_reference(
    converted: OpenVINOGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, look = [], converted._look
    monkeypatch.setattr(converted, "_look", lambda *inputs: looked.append(inputs) or look(*inputs))
    known, more = references(2), references(3)[2:]
    restored = []
    for batch in ([known], [known], [more], [known]):
        restored.append(converted(faces(1), References.pack(batch), landmarks(1), identities(1)).restored)
    assert len(looked) == 2, "one of the two references that are known, and another"
    assert torch.equal(restored[0], restored[1]) and torch.equal(restored[0], restored[3])
    assert not torch.equal(restored[0], restored[2])
    kept = len(converted._eyes)
    del known, more, batch
    gc.collect()
    assert len(converted._eyes) == kept - 2


def test_references_need_landmarks_and_identity(converted: OpenVINOGenerator) -> None:
    assert converted.takes_references
    with pytest.raises(ValueError, match="need the landmarks"):
        converted(faces(3), packed())


def test_only_the_tiny_profile_is_converted(source: HonestFace) -> None:
    assert can_run(source) and can_run(small_generator(replace(SMALL, identity_embedder=None, reference_adapter=None)))
    assert not can_run(small_generator(SMALL_SD21))
    assert not can_run(small_generator(replace(SMALL, reference_adapter=None)))


def test_a_precision_that_the_cpu_does_not_have_is_one_line() -> None:
    code = (
        "from models.openvino_generator import OpenVINOGenerator; from tests.small_generator import small_generator;"
        "OpenVINOGenerator(small_generator(), 1, 'bfloat16')"
    )
    older = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    ended = subprocess.run([sys.executable, "-c", code], env=older, capture_output=True, text=True)
    told = ended.stderr.strip().splitlines()[-1]
    assert told == "models.errors.HonestFaceError: OpenVINO cannot run this bundle in bfloat16 on this CPU"


def test_generators_end_in_any_order_and_signals_still_arrive() -> None:
    code = (
        "import faulthandler, gc, os, signal; faulthandler.enable()\n"  # as pytest does: signals have their own stack
        "from models.openvino_generator import OpenVINOGenerator; from tests.small_generator import small_generator\n"
        "first, second = (OpenVINOGenerator(small_generator(), 1) for _ in range(2))\n"
        "del first; gc.collect(); del second; gc.collect()\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('arrived'))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "arrived\n"), ended.stderr


def test_nothing_is_reported_to_the_vendor() -> None:
    code = (
        "import sys; from models.openvino_generator import _import_openvino; _import_openvino().Core();"
        "assert not [name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools.ovc')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
