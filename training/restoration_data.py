"""Pairs to restore: a target, its degraded version and any number of references of the same person."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from models.geometry import ALIGNED_SIZE, Pixels
from training.degradation import PRESETS, degrade
from training.faces import Faces
from training.images import to_image
from training.stage import Batch


class RestorationDataset(Dataset[Batch]):
    """Sample `number`: `truth` and `lq` `[3, 512, 512]`; the number is the seed.

    With `references` = N > 0 each sample has that many slots for pictures of the same person: `reference_images`
    `[N, 3, 512, 512]`, and `reference_present` `[N]`, False where the person has no more pictures or all were dropped
    (`reference_dropout` keeps the blind case strong); `person` `[]`, int64, tells people apart. `wrong_person` is the
    share of the others that get a stranger's picture instead. With `loners` off, people without other pictures are not
    drawn, unless nobody has any.
    """

    def __init__(
        self,
        faces: Faces,
        presets: Sequence[str],
        seed: int,
        references: int = 0,
        reference_dropout: float = 0.2,
        wrong_person: float = 0.0,
        loners: bool = True,
    ) -> None:
        self.faces, self.presets, self.seed = faces, list(presets), seed
        self.references, self.reference_dropout, self.wrong_person = references, reference_dropout, wrong_person
        self.targets = faces.targets
        if references:
            self.people = {identity: number for number, identity in enumerate(faces.of_identity)}
            # who has other pictures is drawn three times as often: they are what this stage is about
            several = [i for i in faces.targets if faces.others(i)]
            self.targets = faces.targets + several + several if loners or not several else several

    def __getitem__(self, number: int) -> Batch:
        rng = np.random.default_rng((self.seed, number))
        index = self.targets[rng.integers(len(self.targets))]
        mirrored = bool(rng.random() < 0.5)
        truth = self._face(index, mirrored)
        lq = degrade(truth, PRESETS[self.presets[rng.integers(len(self.presets))]], rng)
        sample = {"truth": to_image(truth), "lq": to_image(lq)}
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
        images = torch.zeros(self.references, 3, ALIGNED_SIZE, ALIGNED_SIZE)
        present = torch.zeros(self.references, dtype=torch.bool)
        for slot, other in enumerate(chosen):
            images[slot], present[slot] = to_image(self._face(other, mirrored)), True
        person = torch.tensor(self.people[self.faces.files[index].identity])
        return {"reference_images": images, "reference_present": present, "person": person}

    def _face(self, index: int, mirrored: bool) -> Pixels:
        picture = self.faces.enlarged(index)
        return np.ascontiguousarray(picture[:, ::-1]) if mirrored else picture


def held_out_samples(dataset: RestorationDataset, count: int) -> Batch:
    """The first samples of a seeded validation set, stacked."""
    samples = [dataset[number] for number in range(count)]
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
