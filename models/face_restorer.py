"""The whole job on pictures: find faces, align, restore, fix colours, paste back, report.

    restorer = FaceRestorer(bundle.generator, bundle.analyzer)
    references = restorer.prepare_references([decode(path.read_bytes()) for path in paths])
    restoration = restorer.restore(decode(photo), references)

A service that batches calls the four stages itself: `prepare`, `jobs` and `finish` on any thread, `generate` on the one
that owns the device. Face tools are given CPU tensors; only the generator uses `device`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from models import colour_fix
from models.aligned_face import (
    DETECTION_SIDE,
    AlignedFace,
    align,
    align_largest,
    crop_scale,
    find_faces,
    to_network,
    to_pixels,
    whole_picture,
)
from models.choices import LARGEST_UPSCALE, ColourFix, Diagnostics, Faces
from models.errors import NoFaceError, ReferencesError, TooReducedError
from models.face_analyzer import Detection, FaceAnalyzer
from models.geometry import Pixels, compose, enlargement, invert_affine, scale_of
from models.honesty_report import HonestyReport, honesty_report
from models.identity_angles import identity_angles
from models.paste_back import PastedFace, back_to_size, paste_back
from models.picture import Picture
from models.references import Reference, References
from models.wrong_person import used_references

#: Long side in px with which a reference may be read reduced: twice what faces are looked for in.
REDUCED_SIDE = 2 * DETECTION_SIDE
#: How much a detector's box may seem to be enlarged in its crop that turns out not to be.
_SURELY_ENLARGED = 1.25


class Generated(Protocol):
    @property
    def restored(self) -> Tensor: ...


class FaceGenerator(Protocol):
    """The generator G(x_L, R) as the restorer calls it: `models.honestface.HonestFace` or an exported form of it."""

    @property
    def takes_references(self) -> bool: ...

    def __call__(
        self,
        lq: Tensor,
        references: References | None = None,
        landmarks: Tensor | None = None,
        identity: Tensor | None = None,
        strength: float | Tensor = 1.0,
        seeds: Sequence[int | None] | None = None,
    ) -> Generated: ...


@runtime_checkable
class PixelGenerator(Protocol):
    """A generator that takes crops `[S, S, 3]` as they are and brings them to its device and back itself."""

    @property
    def takes_references(self) -> bool: ...

    def restore_pixels(
        self,
        crops: Sequence[Pixels],
        references: References | None,
        landmarks: Tensor,
        strength: Tensor,
        seeds: Sequence[int | None],
    ) -> list[Pixels]: ...


@dataclass(frozen=True)
class Options:
    """`faces`: the largest, all, or the whole picture as one aligned face. `strength` 0..1 moves from the input to the
    restored face. `seed` None takes the mode of the latent, a number draws it. `diagnostics` none makes no reports.
    `upscale` 1..4 gives the picture back so many times as large: a small face is restored at 512 px, and shrinks to its
    place in the picture."""

    faces: Faces = "largest"
    strength: float = 1.0
    color_fix: ColourFix = "wavelet"
    seed: int | None = None
    diagnostics: Diagnostics = "summary"
    upscale: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength is 0 to 1, not {self.strength}")
        if not 1 <= self.upscale <= LARGEST_UPSCALE:
            raise ValueError(f"upscale is 1 to {LARGEST_UPSCALE}, not {self.upscale}")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture with its faces cut out and aligned."""

    picture: Picture
    faces: tuple[AlignedFace, ...]


@dataclass(frozen=True, eq=False)
class FaceJob:
    """All that is needed to restore one face; jobs of many requests share a batch. Of the references the generator is
    shown those that `used_references` leaves."""

    face: AlignedFace
    references: tuple[Reference, ...] = ()
    strength: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, eq=False)
class RestoredFace:
    """A face before and after: `crop` `[512, 512, 3]` is the restored one with its colours fixed."""

    face: AlignedFace
    crop: Pixels
    report: HonestyReport | None


@dataclass(frozen=True, eq=False)
class Restoration:
    """The picture with its restored faces in it."""

    picture: Picture
    faces: tuple[RestoredFace, ...]

    @property
    def reports(self) -> tuple[HonestyReport, ...]:
        return tuple(face.report for face in self.faces if face.report is not None)


class FaceRestorer:
    """Restores faces in pictures with a generator and the face tools of its bundle."""

    def __init__(
        self, generator: FaceGenerator | PixelGenerator, analyzer: FaceAnalyzer, device: torch.device | str = "cpu"
    ) -> None:
        self.generator, self.analyzer, self.device = generator, analyzer, torch.device(device)

    def restore(
        self, picture: Picture, references: Sequence[Reference] = (), options: Options | None = None
    ) -> Restoration:
        """All stages one after the other.

        Raises:
            NoFaceError: there is no face in the picture.
        """
        options = options or Options()
        prepared = self.prepare(picture, options)
        jobs = self.jobs(prepared, references, options)
        return self.finish(prepared, jobs, self.generate(jobs), options)

    def prepare_references(self, pictures: Sequence[Picture], names: Sequence[str] = ()) -> list[Reference]:
        """The largest face of each picture as a reference; `names` appear in errors instead of "reference 1".

        Raises:
            NoFaceError: a picture shows no face; the message names it.
            ReferencesError: the generator takes none.
            TooReducedError: a picture was read reduced (`models.picture.decode`), and its face does not fill the crop.
        """
        if pictures and not self.generator.takes_references:
            raise ReferencesError("this bundle has no identity embedder: it restores without references only")
        references = []
        for index, picture in enumerate(pictures):
            try:
                face = self._largest(picture)
            except NoFaceError as error:
                name = names[index] if names else f"reference {index + 1}"
                raise NoFaceError(f"{name}: {error}") from None
            image = to_network([face.crop])[0]
            references.append(Reference(image, face.landmarks, face.identity, picture.generated))
        return references

    def _largest(self, picture: Picture) -> AlignedFace:
        """The largest face of a reference, as `prepare_references`."""
        if picture.reduced == 1:
            return align_largest(self.analyzer, picture.pixels, find_faces(self.analyzer, picture.pixels))
        with suppress(NoFaceError):
            found = find_faces(self.analyzer, picture.pixels)
            if crop_scale(found[0]) < _SURELY_ENLARGED:
                face = align_largest(self.analyzer, picture.pixels, found)
                if scale_of(face.matrix) <= 1:
                    return face
        raise TooReducedError("the picture has to be read in full")

    def prepare(self, picture: Picture, options: Options) -> Prepared:
        """Finds and aligns the faces that the options ask for.

        Raises:
            NoFaceError: there is none.
        """
        return self.align(picture, self.find(picture, options), options)

    def find(self, picture: Picture, options: Options) -> Sequence[Detection]:
        """What looks like a face, the largest first; nothing where the whole picture is one.

        Raises:
            NoFaceError: there is none.
        """
        return () if options.faces == "aligned" else find_faces(self.analyzer, picture.pixels)

    def align(self, picture: Picture, detections: Sequence[Detection], options: Options) -> Prepared:
        """The faces that the options ask for among the found ones, aligned.

        Raises:
            NoFaceError: there is none after all.
        """
        if options.faces == "aligned":
            return Prepared(picture, (whole_picture(self.analyzer, picture.pixels),))
        if options.faces == "largest":
            return Prepared(picture, (align_largest(self.analyzer, picture.pixels, detections),))
        return Prepared(picture, tuple(align(self.analyzer, picture.pixels, detections)))

    def jobs(self, prepared: Prepared, references: Sequence[Reference], options: Options) -> tuple[FaceJob, ...]:
        """One job for each face. References show one person: among several faces the one that is nearest to them in
        identity (mean cosine) gets them all, the others are restored blind."""
        jobs = [FaceJob(face, (), options.strength, options.seed) for face in prepared.faces]
        if references:
            known = torch.stack([reference.identity for reference in references]).cpu()
            likeness = [float((known @ face.identity).mean()) for face in prepared.faces]
            owner = max(range(len(jobs)), key=likeness.__getitem__)
            jobs[owner] = replace(jobs[owner], references=tuple(references))
        return tuple(jobs)

    @torch.inference_mode()
    def generate(self, jobs: Sequence[FaceJob]) -> list[Pixels]:
        """Restored crops `[512, 512, 3]`, before the colour fix; one pass of the generator on a GPU.

        No result depends on the other jobs. On a CPU each face is a pass of its own: there a batch saves next to
        nothing, and the kernels that libraries choose by batch size differ in the last bits.
        """
        batches = [[job] for job in jobs] if self.device.type == "cpu" else [list(jobs)] if jobs else []
        return [crop for batch in batches for crop in self._generate(batch)]

    def finish(
        self, prepared: Prepared, jobs: Sequence[FaceJob], restored: Sequence[Pixels], options: Options
    ) -> Restoration:
        """Fixes the colours of the restored crops, lays them back into the picture and measures them."""
        faces = tuple(self._finish_face(job, crop, options) for job, crop in zip(jobs, restored, strict=True))
        picture = prepared.picture.enlarged(options.upscale)
        back = invert_affine(enlargement(options.upscale))
        pasted = [
            PastedFace(each.crop, compose(each.face.matrix, back), each.face.crop, options.strength) for each in faces
        ]
        aligned = options.faces == "aligned"
        pixels = back_to_size(pasted[0], picture.pixels) if aligned else paste_back(picture.pixels, pasted)
        return Restoration(replace(picture, pixels=pixels), faces)

    def _generate(self, jobs: Sequence[FaceJob]) -> list[Pixels]:
        device, generator = self.device, self.generator
        crops = [job.face.crop for job in jobs]
        references = References.pack([self._used(job) for job in jobs])
        landmarks = torch.stack([job.face.landmarks for job in jobs])
        strength = torch.tensor([job.strength for job in jobs])
        seeds = [job.seed for job in jobs]
        if isinstance(generator, PixelGenerator):
            return generator.restore_pixels(crops, references, landmarks, strength, seeds)
        restored = generator(
            to_network(crops).to(device),
            None if references is None else references.to(device),
            landmarks.to(device),
            torch.stack([job.face.identity for job in jobs]).to(device),
            strength.to(device),
            seeds,
        ).restored
        return to_pixels(restored)

    def _used(self, job: FaceJob) -> list[Reference]:
        if not job.references:
            return []
        known = torch.stack([reference.identity for reference in job.references])
        (to_input,) = identity_angles(job.face.identity[None], known)
        used = used_references(to_input, identity_angles(known, known), self.analyzer.matching_angle)
        return [reference for reference, keep in zip(job.references, used, strict=True) if keep]

    @torch.inference_mode()
    def _finish_face(self, job: FaceJob, crop: Pixels, options: Options) -> RestoredFace:
        face = job.face
        if options.color_fix != "none":
            fixed = colour_fix.apply(to_network([crop]), to_network([face.crop]), options.color_fix)
            crop = to_pixels(fixed)[0]
        report = None
        if options.diagnostics != "none":
            report = honesty_report(self.analyzer, face, crop, job.references)
        return RestoredFace(face, crop, report)
