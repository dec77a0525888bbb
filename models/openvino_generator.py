"""The tiny profile's generator through OpenVINO: `models.honestface.HonestFace`'s call, converted when it is loaded."""

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from models.eight_bits import ActivationRanges, round_convolutions
from models.errors import HonestFaceError
from models.face_window import within_face
from models.facial_feature_extractor import optimal_reference
from models.honestface import HonestFace, SeenReference
from models.identity_embedder import IdentityPrompt
from models.one_step_diffusion import blend_latents
from models.pixel_unshuffle_autoencoder import PixelUnshuffleAutoencoder
from models.reference_warp import warp_reference
from models.references import Reference, References

Heavy = Literal["float32", "bfloat16", "int8"]

_STATISTICS = "openvino.tools.ovc"


def can_run(generator: HonestFace) -> bool:
    """Whether OpenVINO is installed (the extra `fast`) and the generator is built like the tiny profile.

    That is without a posterior to draw from, and with all parts that look at references or none of them.
    """
    embedder = generator.identity_embedder
    whole = embedder is None or (
        embedder.facial_feature_extractor is not None
        and embedder.face_identity_encoder is not None
        and generator.reference_adapter is not None
    )
    return find_spec("openvino") is not None and isinstance(generator.vae, PixelUnshuffleAutoencoder) and whole


@dataclass(frozen=True, eq=False)
class Restored:
    """`restored` `[B, 3, 512, 512]` in [-1, 1]."""

    restored: Tensor


class OpenVINOGenerator:
    """Restores faces one by one in graphs of fixed shapes, so that no face depends on its batch-mates.

    What perceives the input and the reference runs in float32, for it chooses among close codes and places pixels; the
    UNet and the decoder run in bfloat16 if asked to, or most convolutions in eight bits (`models.eight_bits`, which
    changes the generator). `threads` are OpenVINO's own; one call at a time.

    Raises:
        HonestFaceError: the CPU cannot run it in this precision.
        ValueError: int8 without `ranges`.
        WeightsError: `ranges` are another generator's.
    """

    def __init__(
        self, generator: HonestFace, threads: int, precision: Heavy = "float32", ranges: ActivationRanges | None = None
    ) -> None:
        self._source = generator
        self._eyes: WeakKeyDictionary[Reference, Tensor] = WeakKeyDictionary()
        side, latents = generator.config.latent_size * generator.vae.patch, generator.config.latent_size
        picture, points, one = torch.rand(1, 3, side, side), torch.rand(1, 68, 2) * side, torch.ones(1)
        compiler = _Compiler(threads)
        self._perceive = compiler.graph(_Perceive(generator), (picture,))
        latent, prompt = self._perceive(picture)
        assert latent.shape[2] == latents
        if precision == "int8":
            if ranges is None:
                raise ValueError("int8 needs activation ranges")
            round_convolutions(generator, ranges)
        self._restore = compiler.graph(_Restore(generator), (latent, prompt, one), precision)
        if generator.identity_embedder is not None:
            self._look = compiler.graph(_Look(generator), (picture, points))
            self._bend = compiler.graph(_Bend(generator), (picture, points, points + 1))
            examples = (latent, prompt, one, latent + 1, one)
            self._restore_like = compiler.graph(_RestoreLike(generator), examples, precision)

    @property
    def takes_references(self) -> bool:
        return self._source.takes_references

    def __call__(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> Restored:
        """As `HonestFace.forward`, with references as `References.pack` makes them; seeds change nothing, for this
        autoencoder has no posterior to draw from.

        Raises:
            ValueError: references without the input's landmarks and identity, or a model without reference weights.
        """
        amounts = torch.as_tensor(strength, dtype=torch.float32).expand(len(lq)).contiguous()
        if references is not None:
            if self._source.identity_embedder is None:
                raise ValueError("this model was built without an identity embedder: it takes no references")
            if landmarks is None or identity is None:
                raise ValueError("references need the landmarks and the identity of the input")
        faces = torch.empty_like(lq)
        for i in range(len(lq)):
            latent, visual = self._perceive(lq[i : i + 1])
            own = None if references is None else references.part(i, i + 1)
            if own is None or landmarks is None or identity is None:
                face = self._restore(latent, visual, amounts[i : i + 1])
            else:
                prompt, seen = self._consult_references(visual, own, landmarks[i : i + 1], identity[i : i + 1])
                face = self._restore_like(latent, prompt, amounts[i : i + 1], seen.latent, seen.agreement)
            faces[i : i + 1] = face[0]  # copied out of the graph's own memory, which the next face overwrites
        return Restored(faces)

    def _consult_references(
        self, visual: Tensor, references: References, landmarks: Tensor, identity: Tensor
    ) -> tuple[Tensor, SeenReference]:
        """One image's prompt and bent reference; how much there is to attend to varies, so that part is torch's."""
        embedder = self._source.identity_embedder
        assert embedder is not None and embedder.face_identity_encoder is not None
        row = int(optimal_reference(landmarks, references))
        chosen = slice(row, row + 1)  # a view: an index of rows would copy the picture
        (bent,) = self._bend(references.images[chosen], references.landmarks[chosen], landmarks)
        pooled = embedder.face_identity_encoder(references.identity, references.owner, 1)
        present = torch.ones(1, dtype=torch.bool)
        tokens = torch.cat([self._eye_tokens(references, row), pooled], 1)
        person = IdentityPrompt(tokens, present, torch.tensor([row]))
        agreement = (identity * references.identity[chosen]).sum(1)
        return self._source.fusion(visual, person), SeenReference(bent, agreement, present)

    def _eye_tokens(self, references: References, row: int) -> Tensor:
        """Those of one reference, `[1, 4, k]`: known for as long as it is, for they depend on nothing else."""
        source = references.sources[row]
        known = self._eyes.get(source)
        if known is None:
            known = self._look(references.images[row : row + 1], references.landmarks[row : row + 1])[0].clone()
            self._eyes[source] = known
        return known


class _Perceive(nn.Module):
    """The face's latent and the tokens of the VRE."""

    def __init__(self, generator: HonestFace) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, lq: Tensor) -> tuple[Tensor, Tensor]:
        return self.generator.vae.encode(lq), self.generator.vre(lq)


class _Look(nn.Module):
    """The eye tokens of a reference."""

    def __init__(self, generator: HonestFace) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, landmarks: Tensor) -> tuple[Tensor]:
        embedder = self.generator.identity_embedder
        assert embedder is not None and embedder.facial_feature_extractor is not None
        return (embedder.facial_feature_extractor(image, landmarks),)


class _Bend(nn.Module):
    """The latent of a reference once it is bent onto the landmarks `own`."""

    def __init__(self, generator: HonestFace) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, image: Tensor, landmarks: Tensor, own: Tensor) -> tuple[Tensor]:
        bent = warp_reference(image, landmarks, own, self.generator.config.reference_warp)
        return (self.generator.vae.encode(bent),)


class _Restore(nn.Module):
    def __init__(self, generator: HonestFace) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, latent: Tensor, prompt: Tensor, strength: Tensor) -> tuple[Tensor]:
        return (self._decoded(latent, self.generator.predict(latent, prompt), strength),)

    def _decoded(self, latent: Tensor, restored: Tensor, strength: Tensor) -> Tensor:
        return self.generator.vae.decode(blend_latents(latent, restored, strength))


class _RestoreLike(_Restore):
    def forward(  # type: ignore[override]
        self, latent: Tensor, prompt: Tensor, strength: Tensor, reference: Tensor, agreement: Tensor
    ) -> tuple[Tensor]:
        seen = SeenReference(within_face(latent, reference), agreement, torch.ones(1, dtype=torch.bool))
        steering = self.generator.steer(latent, seen)
        return (self._decoded(latent, self.generator.predict(latent, prompt, steering), strength),)


class _Graph:
    """A compiled graph: tensors in, tensors out, which the next call overwrites."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        results = self._request.infer(arrays, share_inputs=True, share_outputs=True)
        return tuple(torch.from_numpy(results[i]) for i in range(len(results)))


class _Compiler:
    """Traces modules and compiles them for this CPU: one stream, so that all threads work on the one face."""

    def __init__(self, threads: int) -> None:
        self._openvino = _import_openvino()
        self._core = _core()
        self._threads = threads

    def graph(self, module: nn.Module, example: tuple[Tensor, ...], precision: Heavy = "float32") -> _Graph:
        """The module for inputs of the shapes of `example`."""
        decoder = import_module("openvino.frontend.pytorch.ts_decoder").TorchScriptPythonDecoder
        frontend = self._openvino.frontend.FrontEndManager().load_by_framework("pytorch")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # shapes are constants here on purpose, and tracing is deprecated
            traced = decoder(module.eval(), example_input=example, trace_kwargs={"check_trace": False})
        model = frontend.convert(frontend.load(traced))
        model.reshape({port: list(tensor.shape) for port, tensor in zip(model.inputs, example, strict=True)})
        if precision == "int8":
            self._fold_constants(model)
        kind = self._openvino.Type.bf16 if precision == "bfloat16" else self._openvino.Type.f32
        options = {
            "INFERENCE_PRECISION_HINT": kind.get_type_name(),
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        # Where the CPU has no instructions for bfloat16, compiling fails or takes float32 instead, without a word.
        with suppress(RuntimeError):
            compiled = self._core.compile_model(model, "CPU", options)
            if compiled.get_property("INFERENCE_PRECISION_HINT") == kind:
                return _Graph(compiled)
        raise HonestFaceError(f"OpenVINO cannot run this bundle in {precision} on this CPU")

    def _fold_constants(self, model: Any) -> None:
        """OpenVINO sees rounding as such, and computes with integers, where its steps are constants."""
        passes = import_module("openvino.passes")
        manager = passes.Manager()
        manager.register_pass(passes.ConstantFolding())
        manager.run_passes(model)


@cache
def _core() -> Any:
    """One for the process: each gives the thread another stack for signals and puts back the one before when it ends,
    which a core that ended earlier may have taken along; the next signal would then kill the process."""
    return _import_openvino().Core()


def _import_openvino() -> Any:
    """The package without its usage statistics: importing it would load the part that reports to its vendor."""
    if "openvino" in sys.modules or _STATISTICS in sys.modules:
        return import_module("openvino")
    sys.modules[_STATISTICS] = None  # type: ignore[assignment]  # its import fails, which openvino allows for
    try:
        return import_module("openvino")
    finally:
        del sys.modules[_STATISTICS]
