"""The service as users start it, on the embedded bundle, over HTTP, with real photographs."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut

ROOT = Path(__file__).parents[2]


def encoded(pixels: NDArray[np.uint8], format: str = "JPEG", **how: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format, **how)
    return out.getvalue()


def pixels_of(data: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64)


ORIGINAL = np.ascontiguousarray(astronaut())
PHOTO = encoded(
    np.asarray(Image.fromarray(ORIGINAL).resize((171, 171), Image.Resampling.BOX).resize((512, 512))), quality=60
)
REFERENCE = encoded(np.ascontiguousarray(ORIGINAL[:320, 60:400][:, ::-1]), quality=95)
#: insightface's picture of six people, and about where their noses are.
NOSES = [(106, 336), (317, 223), (513, 360), (798, 429), (956, 150), (1169, 333)]
SIX = files("insightface").joinpath("data/images/t1.jpg").read_bytes()


@pytest.fixture(scope="module")
def service() -> Iterator[httpx.Client]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HONESTFACE_")}
    command = [sys.executable, "honestface.py", "serve", "--port", str(port)]
    with (
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client,
    ):
        try:
            end = time.monotonic() + 300
            while not ready(client):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
            yield client
            # What is in work when the end is asked for is finished, and only then comes the end.
            with ThreadPoolExecutor(3) as pool:
                asked = [pool.submit(client.post, "/restore", files={"image": PHOTO}) for _ in range(3)]
                while client.get("/health").json()["requests_in_progress"] < 3 and not asked[0].done():
                    time.sleep(0.02)
                process.send_signal(signal.SIGTERM)
                assert [each.result().status_code for each in asked] == [200] * 3
            assert process.wait(30) == 0
        finally:
            process.kill()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_a_photograph_with_a_reference(service: httpx.Client) -> None:
    parts = [("image", PHOTO), ("references", REFERENCE)]
    document = service.post(
        "/restore", files=parts, data={"diagnostics": "full"}, headers={"accept": "application/json"}
    ).json()
    (face,) = document["faces"]
    x0, y0, x1, y1 = face["box"]
    assert x0 < 225 < x1 and y0 < 115 < y1, "her nose is there"
    assert face["report"]["references"][0]["wrong_person"] in (False, None)
    assert face["report"]["identity_angle"]["value"] < 90
    assert document["model"]["profile"] == "tiny"


def test_only_the_face_changes(service: httpx.Client) -> None:
    before, after = (
        pixels_of(PHOTO),
        pixels_of(service.post("/restore", files={"image": PHOTO}, data={"format": "png"}).content),
    )
    assert np.array_equal(before[400:], after[400:])
    assert np.abs(before[80:160, 190:260] - after[80:160, 190:260]).mean() > 0.5


def test_strength_moves_from_the_input_to_the_restored_face(service: httpx.Client) -> None:
    def restored(strength: float) -> NDArray[np.float64]:
        data = {"format": "png", "strength": str(strength), "color_fix": "none"}
        return pixels_of(service.post("/restore", files={"image": PHOTO}, data=data).content)

    none, half, full = (restored(strength) for strength in (0.0, 0.5, 1.0))
    assert np.abs(half - none).mean() < np.abs(full - none).mean()


def test_six_faces(service: httpx.Client) -> None:
    document = service.post(
        "/restore", files={"image": SIX}, data={"faces": "all"}, headers={"accept": "application/json"}
    ).json()
    boxes = [face["box"] for face in document["faces"]]
    missed = [(x, y) for x, y in NOSES if not any(x0 < x < x1 and y0 < y < y1 for x0, y0, x1, y1 in boxes)]
    assert not missed and len(boxes) == 6


def test_concurrent_requests_answer_what_each_would_alone(service: httpx.Client) -> None:
    def ask(index: int) -> bytes:
        parts = [("image", PHOTO if index % 2 else SIX)] + [("references", REFERENCE)] * (index % 3)
        data = {"format": "png", "strength": str(1 - index / 10)}
        response = service.post("/restore", files=parts, data=data)
        assert response.status_code == 200, response.text
        return response.content

    alone = [ask(index) for index in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == alone


@pytest.mark.parametrize(
    ("data", "accept", "kind"),
    [
        ({"color_fix": "adain", "quality": "80"}, "image/*", "image/jpeg"),
        ({"color_fix": "none", "seed": "7", "format": "webp"}, "image/*", "image/webp"),
        ({"faces": "aligned", "diagnostics": "none"}, "image/png", "image/png"),
    ],
)
def test_options(service: httpx.Client, data: dict[str, str], accept: str, kind: str) -> None:
    response = service.post("/restore", files={"image": PHOTO}, data=data, headers={"accept": accept})
    assert response.status_code == 200 and response.headers["content-type"] == kind
    assert pixels_of(response.content).shape == (512, 512, 3)


def test_references_uploaded_once(service: httpx.Client) -> None:
    sent = service.post("/restore", files=[("image", PHOTO), ("references", REFERENCE)]).content
    assert service.put("/reference-sets/her", files={"references": REFERENCE}).json()["references"] == 1
    assert service.post("/restore", files={"image": PHOTO}, data={"reference_set": "her"}).content == sent
    assert service.get("/reference-sets/her").status_code == 200
    assert service.delete("/reference-sets/her").status_code == 204
    assert service.get("/reference-sets/her").status_code == 404


NOBODY = encoded(np.full((300, 300, 3), 128, np.uint8))


@pytest.mark.parametrize(
    ("files", "headers", "status", "name"),
    [
        ({"references": PHOTO}, {}, 400, "invalid-request"),
        ({"image": PHOTO}, {"accept": "text/html"}, 406, "not-acceptable"),
        ({"image": b"x" * 20_000_001}, {}, 413, "too-large"),
        ({"image": encoded(np.zeros((8100, 8100), np.bool_), "PNG")}, {}, 413, "picture-too-large"),
        ({"image": b"%PDF-1.7"}, {}, 415, "unsupported-media-type"),
        ({"image": PHOTO[:2000]}, {}, 422, "invalid-picture"),
        ({"image": PHOTO, "references": NOBODY}, {}, 422, "invalid-reference"),
        ({"image": NOBODY}, {}, 422, "no-face"),
        ({"image": PHOTO}, {"x-request-timeout": "0.001"}, 504, "deadline-exceeded"),
    ],
)
def test_refusals(
    service: httpx.Client, files: dict[str, bytes], headers: dict[str, str], status: int, name: str
) -> None:
    response = service.post("/restore", files=files, headers=headers)
    if headers.get("x-request-timeout") and response.status_code == 408:
        return  # so short a time passes while the picture is still on its way
    assert (response.status_code, response.json()["type"]) == (status, f"urn:honestface:problem:{name}")


def test_who_leaves_is_not_worked_for(service: httpx.Client) -> None:
    def left() -> int:
        line = 'honestface_cancellations_total{reason="disconnected"} '
        return int(float(service.get("/metrics").text.split(line)[1].split()[0]))

    before = left()
    with pytest.raises(httpx.ReadTimeout):
        service.post("/restore", files={"image": SIX}, data={"faces": "all"}, timeout=0.3)
    end = time.monotonic() + 20
    while left() == before:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert service.get("/health").json()["requests_in_progress"] == 0


def test_the_command_line_and_the_service_agree(service: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(PHOTO)
    (tmp_path / "reference.jpg").write_bytes(REFERENCE)
    command = [
        sys.executable,
        str(ROOT / "honestface.py"),
        "restore",
        "photo.jpg",
        "-r",
        "reference.jpg",
        "-o",
        "out.png",
    ]
    subprocess.run([*command, "--device", "cpu"], cwd=tmp_path, check=True, timeout=120)
    parts = [("image", PHOTO), ("references", REFERENCE)]
    answer = service.post("/restore", files=parts, data={"format": "png"}).content
    difference = np.abs(pixels_of(answer) - pixels_of((tmp_path / "out.png").read_bytes()))
    # The device thread and the command may sum with different numbers of threads: a few pixels differ a little.
    assert difference.mean() < 0.05 and difference.max() <= 8


def test_demo(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "honestface.py"), "demo", "--out", str(tmp_path / "demo")]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert "only one of her" in told
    for name in ("degraded.jpg", "restored.png"):
        assert pixels_of((tmp_path / "demo" / name).read_bytes()).shape == (512, 512, 3)
    assert (tmp_path / "demo" / "before-after.png").is_file() and (tmp_path / "demo" / "report.json").is_file()
