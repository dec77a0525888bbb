"""The sd21 profile's generator on one GPU: compiled parts, one CUDA graph a batch size, bytes in and bytes out.

A pass is two graphs. The first reads the faces: the VAE's encoder on one stream, the VRE with its choice of tokens on
another, while the identity embedder, whose shapes follow the number of references, runs eagerly on a third. The second
fuses, takes the one step (Eq. 3), decodes and rounds to bytes. Nothing waits for the device before the final copy.
On a CPU the same code runs without streams and graphs, so that it can be tested there.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.autoencoder import KLAutoencoder, seeded_noise
from models.geometry import Pixels
from models.honestface import HonestFace
from models.identity_embedder import IdentityPrompt
from models.one_step_diffusion import blend_latents
from models.references import References

BUCKETS = (1, 2, 4, 8)


def fits(generator: HonestFace) -> bool:
    """Whether it is built like the sd21 profile: a KL autoencoder and no reference adapter."""
    return isinstance(generator.vae, KLAutoencoder) and generator.reference_adapter is None


@dataclass(eq=False)
class _Batch:
    """The fixed tensors of one batch size, which its graphs read and write."""

    host: Tensor
    pixels: Tensor
    noise: Tensor
    strength: Tensor
    tokens: Tensor
    present: Tensor
    latent: Tensor | None = None
    visual: Tensor | None = None
    restored: Tensor | None = None
    read: Callable[[], None] | None = None
    write: Callable[[], None] | None = None


class CudaGenerator:
    """Takes over a generator with a KL autoencoder and without a reference adapter; one call at a time, one thread.

    `dtype` is that of VAE and UNet. The VRE stays in float32 (its products in TF32), for coarser rounding would change
    its choice among close codes, and so does the identity embedder. `compiled` needs a C++ compiler (CPU) or Triton
    (CUDA); kernels are cached in TORCHINDUCTOR_CACHE_DIR.
    """

    def __init__(
        self,
        generator: HonestFace,
        device: torch.device | str = "cuda",
        dtype: torch.dtype = torch.bfloat16,
        compiled: bool = True,
        buckets: Sequence[int] = BUCKETS,
    ) -> None:
        vae = generator.vae
        if not isinstance(vae, KLAutoencoder) or not fits(generator):
            raise ValueError("only a generator with a KL autoencoder and without a reference adapter fits here")
        self.device, self.buckets = torch.device(device), tuple(sorted(buckets))
        generator.to(self.device)
        for part in (vae.network, generator.unet, generator.vre):
            nn.Module.to(part, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for part in (vae.network, generator.unet):
            part.fuse_qkv_projections()
            nn.Module.to(part, dtype=dtype)
        self._generator, self._vae, self._dtype = generator, vae, dtype
        self._cuda = self.device.type == "cuda"
        if self._cuda:
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True  # for the float32 VRE
        self._side, self._eager = self._stream(), self._stream()
        mode = "max-autotune-no-cudagraphs" if self._cuda else "default"

        def compiling(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
            return torch.compile(step, dynamic=False, mode=mode) if compiled else step

        self._encode_step, self._embed_step = compiling(self._encode), compiling(self._embed)
        self._denoise_step = compiling(self._denoise)
        self._batches: dict[int, _Batch] = {}

    @property
    def takes_references(self) -> bool:
        return self._generator.takes_references

    @torch.inference_mode()
    def restore_pixels(
        self,
        crops: Sequence[Pixels],
        references: References | None,
        landmarks: Tensor,
        strength: Tensor,
        seeds: Sequence[int | None],
    ) -> list[Pixels]:
        """Restored crops `[S, S, 3]`; what `HonestFace.forward` makes of them, rounded to bytes on the device."""
        results: list[Pixels] = []
        most = self.buckets[-1]
        for start in range(0, len(crops), most):
            part = slice(start, start + most)
            own = None if references is None else references.part(start, min(start + most, len(crops)))
            results += self._restore(crops[part], own, landmarks[part], strength[part], seeds[part])
        return results

    def _restore(
        self,
        crops: Sequence[Pixels],
        references: References | None,
        landmarks: Tensor,
        strength: Tensor,
        seeds: Sequence[int | None],
    ) -> list[Pixels]:
        count = len(crops)
        batch = self._batch(next(size for size in self.buckets if size >= count), crops[0].shape[0])
        for row in range(len(batch.host)):  # rows without a face repeat the last one
            batch.host[row] = torch.from_numpy(np.ascontiguousarray(crops[min(row, count - 1)]))
        batch.pixels.copy_(batch.host, non_blocking=True)
        batch.strength[:count].copy_(strength, non_blocking=True)
        batch.present.fill_(False)
        batch.noise.zero_()
        for row, seed in enumerate(seeds):
            if seed is not None:
                batch.noise[row].copy_(seeded_noise(seed, batch.noise[row].shape), non_blocking=True)
        if references is not None:
            with self._beside(self._eager):
                person = self._identity(references, landmarks)
                batch.tokens[:count].copy_(person.tokens)
                batch.present[:count].copy_(person.present)
        self._run(batch, "read")
        self._join(self._eager)
        self._run(batch, "write")
        assert batch.restored is not None
        batch.host.copy_(batch.restored, non_blocking=True)
        if self._cuda:
            torch.cuda.current_stream(self.device).synchronize()
        return [face.numpy().copy() for face in batch.host[:count]]

    def _identity(self, references: References, landmarks: Tensor) -> IdentityPrompt:
        embedder = self._generator.identity_embedder
        if embedder is None:
            raise ValueError("this model was built without an identity embedder: it takes no references")
        prompt: IdentityPrompt = embedder(landmarks.to(self.device, non_blocking=True), references.to(self.device))
        return prompt

    def _encode(self, pixels: Tensor, noise: Tensor) -> Tensor:
        images = _normalised(pixels).to(self._dtype).contiguous(memory_format=torch.channels_last)
        posterior = self._vae.network.encode(images).latent_dist
        latent: Tensor = (posterior.mode().float() + posterior.std.float() * noise) * self._vae.scaling
        return latent

    def _embed(self, pixels: Tensor) -> Tensor:
        visual: Tensor = self._generator.vre(_normalised(pixels))
        return visual

    def _denoise(self, latent: Tensor, visual: Tensor, tokens: Tensor, present: Tensor, strength: Tensor) -> Tensor:
        prompt = self._generator.fusion(visual, IdentityPrompt(tokens, present, present.long()))
        restored = blend_latents(latent, self._generator.predict(latent, prompt), strength)
        images = self._vae.decode(restored)
        return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _batch(self, size: int, side: int) -> _Batch:
        if size in self._batches:
            return self._batches[size]
        embedder, vre = self._generator.identity_embedder, self._generator.config.vre
        latents, channels = side // self._vae.patch, self._generator.unet.config.in_channels
        host = torch.empty(size, side, side, 3, dtype=torch.uint8, pin_memory=self._cuda)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(size, *shape, device=self.device, dtype=dtype)

        tokens = zeros(embedder.tokens if embedder else 0, vre.prompt_width)
        batch = self._batches[size] = _Batch(
            host=host,
            pixels=zeros(side, side, 3, dtype=torch.uint8),
            noise=zeros(channels, latents, latents),
            strength=zeros() + 1,
            tokens=tokens,
            present=zeros(dtype=torch.bool),
        )
        return batch

    def _read(self, batch: _Batch) -> None:
        with self._beside(self._side):
            batch.visual = self._embed_step(batch.pixels)
        batch.latent = self._encode_step(batch.pixels, batch.noise)
        self._join(self._side)

    def _write(self, batch: _Batch) -> None:
        assert batch.latent is not None and batch.visual is not None
        arguments = (batch.latent, batch.visual, batch.tokens, batch.present, batch.strength)
        batch.restored = self._denoise_step(*arguments)

    def _run(self, batch: _Batch, part: str) -> None:
        """Replay the part's graph; at the first time compile (capturing allows no tuning) and capture it."""
        step = self._read if part == "read" else self._write
        if not self._cuda:
            return step(batch)
        if getattr(batch, part) is None:
            for _ in range(3):
                step(batch)
            torch.cuda.synchronize(self.device)
            graph = torch.cuda.CUDAGraph()
            # without its device and a stream of it, capturing would watch the first GPU
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(graph, stream=self._stream(), capture_error_mode="thread_local"),
            ):
                step(batch)
            setattr(batch, part, graph.replay)
        getattr(batch, part)()
        return None

    def _stream(self) -> "torch.cuda.Stream | None":
        return torch.cuda.Stream(self.device) if self._cuda else None  # type: ignore[no-untyped-call]

    def _beside(self, stream: "torch.cuda.Stream | None") -> AbstractContextManager[object]:
        """Work from here on runs on `stream`, after what was asked for so far."""
        if stream is None:
            return nullcontext()
        stream.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(stream)

    def _join(self, stream: "torch.cuda.Stream | None") -> None:
        if stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(stream)


def _normalised(pixels: Tensor) -> Tensor:
    """RGB `[B, 3, S, S]` in [-1, 1] of bytes `[B, S, S, 3]`."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
