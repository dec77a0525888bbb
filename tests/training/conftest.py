import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.vgg16 import vgg16_features
from tests.toy_faces import TEMPLATE, photo

#: Identity, split and skin of every drawn person; each has two pictures, the second a little darker.
PEOPLE = {
    "anna": ("train", (190, 150, 150)),
    "ben": ("train", (150, 150, 190)),
    "carl": ("val", (150, 190, 150)),
    "dora": ("val", (180, 180, 130)),
}


@pytest.fixture(scope="session")
def face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Aligned drawn faces of 512 px with index.csv and labels.npz; ben's second picture is not sharp enough."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    names, descriptors = [], []
    with (folder / "index.csv").open("w", newline="") as stream:
        index = csv.DictWriter(stream, ["file", "identity", "split", "hq", "licence"])
        index.writeheader()
        for person, (split, (red, green, blue)) in PEOPLE.items():
            who = rng.normal(size=128)
            for number in range(2):
                name, darker = f"{person}_{number}.png", 12 * number
                skin = (red - darker, green - darker, blue - darker)
                Image.fromarray(photo(((255.5, 255.5), 512, skin), size=(512, 512))).save(folder / name)
                hq = name != "ben_1.png"
                index.writerow({"file": name, "identity": person, "split": split, "hq": int(hq), "licence": "drawn"})
                names.append(name)
                descriptors.append(who + 0.1 * rng.normal(size=128))
    landmarks = np.repeat(TEMPLATE[None], len(names), axis=0).astype(np.float32)
    np.savez(folder / "labels.npz", files=names, landmarks=landmarks, sface=np.array(descriptors, np.float32))
    return folder


@pytest.fixture(scope="session")
def vgg16_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of VGG16's first four convolutions, in a file as the published ones are."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in vgg16_features(7).state_dict().items():
        values = torch.zeros_like(value)
        if name.endswith(".weight"):
            values = torch.randn(value.shape, generator=generator) / (3 * value.shape[1] ** 0.5)
        state[f"features.{name}"] = values.half()
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.pt"
    torch.save(state, path)
    return path
