"""Landmarks for a folder of aligned faces that has none, as a bundle's landmark network finds them."""

from pathlib import Path

import numpy as np
import torch

from models.aligned_face import to_network
from models.errors import PictureError
from models.face_analyzer import FaceAnalyzer
from models.geometry import ALIGNED_SIZE, enlargement, transform_points
from training.decoded_pictures import enlarge, read_pixels
from training.faces import Faces, all_files


@torch.inference_mode()
def label_faces(root: Path, analyzer: FaceAnalyzer) -> int:
    """Writes `root/labels.npz` with landmarks in each file's own pixels, and tells of how many files.

    Raises:
        PictureError: there are labels already, or no pictures.
    """
    labels = root / "labels.npz"
    if labels.exists():
        raise PictureError(f"{labels} exists: it is not overwritten")
    names, marks = [], []
    for file in Faces(all_files(root)).files:
        picture = read_pixels(file.path)
        points = analyzer.landmark_detector.landmarks(to_network([enlarge(picture)])).points[0].numpy()
        names.append(file.path.relative_to(root).as_posix())
        marks.append(transform_points(enlargement(picture.shape[0] / ALIGNED_SIZE), points))
    temporary = root / "labels.part.npz"
    np.savez(temporary, allow_pickle=False, files=np.array(names), landmarks=np.stack(marks).astype(np.float32))
    temporary.replace(labels)
    return len(names)
