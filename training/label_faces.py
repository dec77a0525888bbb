"""Landmarks for a folder of aligned faces that has none, as a bundle's landmark network finds them."""

from pathlib import Path

import numpy as np
import torch

from models.aligned_face import to_network
from models.errors import PictureError
from models.face_analyzer import FaceAnalyzer
from training.faces import Faces, all_files
from training.restoration_data import aligned_face


@torch.inference_mode()
def label_faces(root: Path, analyzer: FaceAnalyzer) -> int:
    """Writes `root/labels.npz` with landmarks in each file's own pixels, and tells of how many files.

    Raises:
        PictureError: there are labels already.
    """
    labels = root / "labels.npz"
    if labels.exists():
        raise PictureError(f"{labels} exists: it is not overwritten")
    faces = Faces(all_files(root))
    names, marks = [], []
    for index, file in enumerate(faces.files):
        picture, _ = aligned_face(faces, index)
        size = faces.pixels(index).shape[0]
        points = analyzer.landmark_detector.landmarks(to_network([picture])).points[0].numpy()
        names.append(file.path.relative_to(root).as_posix())
        marks.append((points + 0.5) * (size / 512) - 0.5)
        faces.forget()
    temporary = root / "labels.part.npz"
    np.savez(temporary, allow_pickle=False, files=np.array(names), landmarks=np.stack(marks).astype(np.float32))
    temporary.replace(labels)
    return len(names)
