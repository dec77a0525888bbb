"""LitServe with the same engine behind it, for comparison: `python -m benchmarks.litserve_server PORT [BUNDLE]`."""

import sys
from pathlib import Path
from typing import Any

import litserve
from fastapi import Request, Response

from models.face_restorer import Options
from models.picture import decode, encode
from service.engine import engine_of
from service.settings import Settings


class Api(litserve.LitAPI):  # type: ignore[misc]
    """POST /predict: a form with `image` and `faces`; answers JPEG."""

    folder: Path | None = None

    def setup(self, device: str) -> None:
        engine = engine_of(Settings(bundle=self.folder))
        engine.warm_up([1])
        self.restorer = engine.restorer

    def decode_request(self, request: Request) -> tuple[bytes, str]:
        form: Any = request  # LitServe hands over what it made of the body
        return form["image"].file.read(), form["faces"]

    def predict(self, inputs: tuple[bytes, str]) -> bytes:
        data, faces = inputs
        options = Options(faces=faces, diagnostics="none")  # type: ignore[arg-type]
        picture = self.restorer.restore(decode(data), (), options).picture
        return encode(picture.pixels, picture.alpha, "jpeg", 95)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="image/jpeg")


if __name__ == "__main__":
    api = Api()
    api.folder = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    server = litserve.LitServer(api, accelerator="cpu", timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
