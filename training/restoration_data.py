"""Pairs to restore: a target, its degraded version and any number of references of the same person."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from models.errors import PictureError
from training.degradation import PRESETS, degrade
from training.face_views import MIRRORED
from training.faces import Faces
from training.images import to_image
from training.stage import Batch

Pixels = NDArray[np.uint8]


class RestorationDataset(Dataset[Batch]):
    """Sample `number`: `truth` and `lq` `[3, 512, 512]` and the truth's `landmarks` `[68, 2]`; the number is the seed.

    With `references` = N > 0 each sample has that many slots for pictures of the same person: `reference_images`
    `[N, 3, 512, 512]`, `reference_landmarks` `[N, 68, 2]`, and `reference_present` `[N]`, False where the person has no
    more pictures or all were dropped (`reference_dropout` keeps the blind case strong). `wrong_person` is the share of
    samples that get a stranger's picture instead.
    """

    def __init__(
        self,
        faces: Faces,
        presets: Sequence[str],
        seed: int,
        references: int = 0,
        reference_dropout: float = 0.2,
        wrong_person: float = 0.0,
    ) -> None:
        self.faces, self.presets, self.seed = faces, list(presets), seed
        self.references, self.reference_dropout, self.wrong_person = references, reference_dropout, wrong_person
        self.targets = faces.targets
        if references:
            if any(file.landmarks is None for file in faces.files):
                raise PictureError("references need landmarks: some of these pictures have none")
            # who has other pictures is drawn three times as often: they are what this stage is about
            several = [i for i in faces.targets if faces.others(i)]
            self.targets = faces.targets + several + several

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.seed, number))
        index = self.targets[rng.integers(len(self.targets))]
        mirrored = bool(rng.random() < 0.5)
        truth, landmarks = self._face(index, mirrored)
        lq = degrade(truth, PRESETS[self.presets[rng.integers(len(self.presets))]], rng)
        sample = {"truth": to_image(truth), "lq": to_image(lq), "landmarks": landmarks}
        if self.references:
            sample |= self._references(index, mirrored, rng)
        return sample

    def _references(self, index: int, mirrored: bool, rng: np.random.Generator) -> Batch:
        others = self.faces.others(index)
        wrong = bool(rng.random() < self.wrong_person)
        if wrong:
            stranger = int(rng.integers(len(self.faces.files)))
            same = self.faces.files[stranger].identity == self.faces.files[index].identity
            others = [] if same else [stranger]
        dropped = rng.random() < self.reference_dropout
        count = 0 if dropped else min(len(others), int(rng.integers(1, self.references + 1)))
        chosen = rng.permutation(others)[:count].tolist() if count else []
        images = torch.zeros(self.references, 3, 512, 512)
        marks = torch.zeros(self.references, 68, 2)
        present = torch.zeros(self.references, dtype=torch.bool)
        for slot, other in enumerate(chosen):
            picture, marks[slot] = self._face(other, mirrored)
            images[slot], present[slot] = to_image(picture), True
        return {"reference_images": images, "reference_landmarks": marks, "reference_present": present}

    def _face(self, index: int, mirrored: bool) -> tuple[Pixels, torch.Tensor]:
        picture, marks = aligned_face(self.faces, index)
        if mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
            marks = marks[MIRRORED] * np.array([-1, 1], dtype=np.float32) + np.array([511, 0], dtype=np.float32)
        return picture, torch.from_numpy(np.ascontiguousarray(marks))


def aligned_face(faces: Faces, index: int) -> tuple[Pixels, NDArray[np.float32]]:
    """A face at 512 px with its landmarks in these pixels; zeros where the index has none."""
    size = faces.pixels(index).shape[0]
    marks = faces.files[index].landmarks
    marks = np.zeros((68, 2), np.float32) if marks is None else (marks + 0.5) * (512 / size) - 0.5
    return faces.enlarged(index), marks


def held_out_samples(dataset: RestorationDataset, count: int) -> Batch:
    """The first samples of a seeded validation set, stacked."""
    samples = [dataset[number] for number in range(count)]
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
