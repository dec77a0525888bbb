"""An ONNX network without gradients, on one thread of the CPU."""

from pathlib import Path
from typing import Any

from models.errors import WeightsError


def open_onnx(path: Path) -> Any:
    """onnxruntime's session of a file, which says nothing below an error.

    Raises:
        WeightsError: it is no ONNX network.
    """
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        return InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has an exception class for each status, without a common base
        raise WeightsError(f"{path} is no ONNX network: {str(error).splitlines()[0]}") from error
