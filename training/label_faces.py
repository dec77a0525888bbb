"""Labels for a folder of aligned faces that has none: landmarks as a bundle's network finds them, descriptors."""

from pathlib import Path

import torch

from models.aligned_face import to_network
from models.face_analyzer import FaceAnalyzer
from models.geometry import (
    ALIGNED_SIZE,
    ARCFACE_112,
    ARCFACE_SIZE,
    enlargement,
    fit_similarity,
    five_points,
    transform_points,
    warp,
)
from training.decoded_pictures import enlarge, read_pixels
from training.faces import Faces, all_files
from training.labels import refuse_labels, write_labels
from training.onnx_recogniser import OnnxRecogniser


@torch.inference_mode()
def label_faces(root: Path, analyzer: FaceAnalyzer, teacher: OnnxRecogniser | None = None) -> int:
    """Writes `root/labels.npz` with landmarks in each file's own pixels, and tells of how many files.

    With a teacher its descriptors (`sface`) stand there too: the identity stage learns from them.

    Raises:
        PictureError: there are labels already, or no pictures.
    """
    refuse_labels(root)
    names, marks, descriptors = [], [], []
    for file in Faces(all_files(root), str(root)).files:
        picture = read_pixels(file.path)
        points = analyzer.landmark_detector.landmarks(to_network([enlarge(picture)])).points[0].numpy()
        names.append(file.path.relative_to(root).as_posix())
        marks.append(transform_points(enlargement(picture.shape[0] / ALIGNED_SIZE), points))
        if teacher:
            crop = warp(picture, fit_similarity(five_points(marks[-1]), ARCFACE_112), (ARCFACE_SIZE, ARCFACE_SIZE))
            descriptors.append(teacher.describe(crop))
    write_labels(root, names, marks, descriptors)
    return len(names)
