"""OpenSeeFace's landmark network as a judge that nothing here was trained on: 66 points of a face.

The file is models/lm_model0_opt.onnx of github.com/emilianavt/OpenSeeFace (BSD-2-Clause; its training data may not be
passed on). It takes a face in 224 px and gives 66 heatmaps of 28 cells a side, and for each cell how much lower and
further right than the cell the point lies.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import WeightsError
from models.geometry import Matrix, Pixels, invert_affine, transform_points, warp

Box = tuple[float, float, float, float]
Values = NDArray[np.float32]

POINTS, SIDE, CELLS = 66, 224, 28
#: Which of the 68 landmarks each point is. The mouth's corners stand after the outer lip and are its inner lip's too.
OF_68 = (*range(48), *range(49, 54), *range(55, 60), 48, 61, 62, 63, 54, 65, 66, 67)
#: Brows and eyes, 22 points, and the outer lip, 12, as `models.affine_landmark_distance` has them of 68.
EYES = (*range(17, 27), *range(36, 48))
MOUTH = (*range(48, 58), 58, 62)

#: Where the landmarks of aligned faces lie in the mean, with margins: x0, y0, x1, y1 in px. The first look.
_FIRST = (96.0, 168.0, 437.0, 510.0)
#: What the tracker of OpenSeeFace takes on each side of the box of the points that it found in the frame before.
_ASIDE, _ABOVE = 0.1, 0.125
#: The network gives an offset as a share of 0..1, whose logit by this is the offset in sides of the square.
_STEEPNESS = 16
_MEAN, _STD = (np.array(values, np.float32) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


class OpenSeeFace:
    """Finds its points in FFHQ-512-aligned faces."""

    def __init__(self, path: Path) -> None:
        self.session = _session(path)

    def points(self, face: Pixels, box: Box | None = None) -> Tensor:
        """`[66, 2]` in the face's pixels. Pictures to compare are looked at in one `box`: another crop moves points."""
        return torch.from_numpy(self._look(face, box or self.box(face)))

    def box(self, face: Pixels) -> Box:
        """What a second look takes in, as a tracker follows a face: all that the first one found, and margins."""
        found = self._look(face, _FIRST)
        (x0, y0), (x1, y1) = found.min(0).tolist(), found.max(0).tolist()
        aside, above = _ASIDE * (x1 - x0), _ABOVE * (y1 - y0)
        return x0 - aside, y0 - above, x1 + aside, y1 + above

    def _look(self, face: Pixels, box: Box) -> Matrix:
        """The points in the face's pixels that a look at this box of it finds."""
        to_crop = _into_square(box)
        crop = warp(face, to_crop, (SIDE, SIDE)).astype(np.float32) / 255
        given = ((crop - _MEAN) / _STD).transpose(2, 0, 1)[None]
        (output,) = self.session.run(None, {self.session.get_inputs()[0].name: given})
        return transform_points(invert_affine(to_crop), decode(output[0]))


def _into_square(box: Box) -> Matrix:
    """The transform that stretches a box, by the middles of its outermost pixels, to the square that is looked at."""
    x0, y0, x1, y1 = box
    across, down = (SIDE - 1) / max(x1 - x0, 1.0), (SIDE - 1) / max(y1 - y0, 1.0)
    return np.array([(across, 0, -across * x0), (0, down, -down * y0)])


def decode(output: Values) -> Matrix:
    """Points `[66, 2]` (x, y) in the 224 px of the crop, of the network's output `[198, 28, 28]`."""
    maps, lower, further = output.reshape(3, POINTS, CELLS * CELLS).astype(np.float64)
    best = maps.argmax(1)
    rows, columns = np.divmod(best, CELLS)
    each = np.arange(POINTS)
    cell = (SIDE - 1) / (CELLS - 1)
    y = rows * cell + (SIDE - 1) * _logit(lower[each, best]) / _STEEPNESS
    x = columns * cell + (SIDE - 1) * _logit(further[each, best]) / _STEEPNESS
    return np.stack([x, y], 1)


def _logit(share: Matrix) -> Matrix:
    inside = np.clip(share, 1e-7, 1 - 1e-7)
    return np.log(inside / (1 - inside))


def _session(path: Path) -> Any:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for each status, without a common base
        raise WeightsError(f"{path} is no ONNX network: {str(error).splitlines()[0]}") from error
