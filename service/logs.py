"""Logs as JSON lines on stderr: counts, times and ids; never pictures, file names, set names or embeddings."""

import json
import logging
import sys
import time
import warnings
from typing import Any

logger = logging.getLogger("honestface")


class JsonFormatter(logging.Formatter):
    """One object a line: time (UTC), level, logger, event, the fields of `extra={"fields": ...}`, a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(level: str) -> None:
    """Sends every logger's records, and Python's warnings, to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its start and stop lines repeat ours, its access lines carry query strings.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    # At debug level they tell what is in files, such as a TIFF's description, and in forms.
    for name in ("PIL", "python_multipart"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    ignore_warnings_of_pictures()


def ignore_warnings_of_pictures() -> None:
    """Keeps Pillow from warning of what is odd in a file: somebody can make a small one that is odd thousands of
    times."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def event(name: str, level: int = logging.INFO, **fields: object) -> None:
    """Logs an event with its fields."""
    logger.log(level, name, extra={"fields": fields})
