"""`POST /restore`: its answers, options and refusals, one client at a time; and the routes beside it."""

import base64
import email
import email.policy
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest

from models.geometry import FFHQ_512, five_points, transform_points
from service.keys import hash_key
from tests.models.recording import Recording
from tests.pictures import restored_by
from tests.service.running import (
    ALIGNED_PHOTO,
    ANNA_PHOTO,
    EMPTY_PHOTO,
    Running,
    Steerable,
    file_of,
    pixels_of,
    problem,
    running,
)
from tests.toy_faces import ANNA, BEN, photo


def brightening(before: bytes, after: bytes) -> float:
    return float((pixels_of(after).astype(float) - pixels_of(before)).max() / 127.5)


def test_answers_the_picture(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "image/png"
    assert response.headers["cache-control"] == "no-store"
    before, after = pixels_of(ANNA_PHOTO), pixels_of(response.content)
    assert after.shape == before.shape
    assert not np.array_equal(before, after)
    assert np.array_equal(before[:, :100], after[:, :100]), "outside of the face nothing changes"


def test_references_reach_the_face(toy: Running) -> None:
    plain = {"color_fix": "none"}
    blind = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data=plain).content
    files = [("image", ANNA_PHOTO), ("references", ANNA_PHOTO), ("references", ALIGNED_PHOTO)]
    guided = toy.client.post("/restore", files=files, data=plain).content
    gain = brightening(ANNA_PHOTO, guided) - brightening(ANNA_PHOTO, blind)
    assert gain == pytest.approx(0.08, abs=0.02)


def test_strength_zero_leaves_the_face(toy: Running) -> None:
    data = {"strength": "0", "faces": "aligned", "color_fix": "none"}
    response = toy.client.post("/restore", files={"image": ALIGNED_PHOTO}, data=data)
    assert brightening(ALIGNED_PHOTO, response.content) < 0.03


def test_strength_and_seed_reach_the_generator(toy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.service.pipeline.ready_engine.restorer, "generator", generator := Recording())
    data = {"strength": "0.25", "seed": "7", "color_fix": "none"}
    assert toy.client.post("/restore", files={"image": ANNA_PHOTO}, data=data).status_code == 200
    assert generator.asked == [(0.25, 7)]


def test_upscaled_the_picture_is_larger_and_the_boxes_are_the_uploads(toy: Running) -> None:
    plain, large = (
        toy.client.post(
            "/restore", files={"image": ANNA_PHOTO}, data={"upscale": upscale}, headers={"accept": "application/json"}
        ).json()
        for upscale in ("1", "2")
    )
    height, width, _ = pixels_of(ANNA_PHOTO).shape
    assert pixels_of(base64.b64decode(large["picture"]["base64"])).shape == (2 * height, 2 * width, 3)
    assert large["faces"][0]["box"] == plain["faces"][0]["box"]


def test_all_faces(toy: Running) -> None:
    two = file_of(photo(((120.0, 120.0), 200.0, ANNA), ((350.0, 130.0), 160.0, BEN)))
    document = toy.client.post(
        "/restore", files={"image": two}, data={"faces": "all"}, headers={"accept": "application/json"}
    ).json()
    assert len(document["faces"]) == 2
    x0, y0, x1, y1 = document["faces"][0]["box"]
    assert x0 < 120 < x1 and y0 < 120 < y1
    assert len(document["faces"][0]["landmarks"]) == 68


def test_landmarks_are_the_uploads_and_the_matrix_aligns_them(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers={"accept": "application/json"})
    (face,) = response.json()["faces"]
    points = five_points(face["landmarks"])
    x0, y0, x1, y1 = face["box"]
    assert ((points > (x0, y0)) & (points < (x1, y1))).all()
    assert np.abs(transform_points(face["aligning_matrix"], points) - FFHQ_512).max() < 2


@pytest.mark.parametrize(("name", "kind"), [("png", "image/png"), ("jpeg", "image/jpeg"), ("webp", "image/webp")])
def test_formats_by_option_accept_and_upload(toy: Running, name: str, kind: str) -> None:
    by_option = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data={"format": name})
    by_accept = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers={"accept": kind})
    uploaded = file_of(pixels_of(ANNA_PHOTO), name.upper())
    by_upload = toy.client.post("/restore", files={"image": uploaded})
    model = toy.client.get("/models").json()["models"][0]
    for response in (by_option, by_accept, by_upload):
        assert response.headers["content-type"] == kind
        assert pixels_of(response.content).shape == (360, 480, 3)
        tool = f"HonestFace {model['profile']} {model['version']}"
        assert restored_by(response.content) == (tool, "compositeWithTrainedAlgorithmicMedia")


def test_accept_in_several_lines_and_with_refusals(toy: Running) -> None:
    def kind(*accept: str) -> str:
        headers = [("accept", each) for each in accept]
        response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers=headers)
        return str(response.headers["content-type"])

    assert kind("text/html", "application/json") == "application/json"
    assert kind("image/png;q=0, image/*") == "image/jpeg"
    assert kind("") == "image/png"


def test_quality(toy: Running) -> None:
    sizes = [
        len(toy.client.post("/restore", files={"image": ANNA_PHOTO}, data={"format": "jpeg", "quality": q}).content)
        for q in ("30", "95")
    ]
    assert sizes[0] < sizes[1]


def test_json_document(toy: Running) -> None:
    response = toy.client.post(
        "/restore",
        files=[("image", ANNA_PHOTO), ("references", ANNA_PHOTO)],
        data={"diagnostics": "full"},
        headers={"accept": "application/json", "x-request-id": "my-id.1"},
    )
    document = response.json()
    assert response.headers["x-request-id"] == document["request_id"] == "my-id.1"
    assert document["model"] == {"bundle": "toy", "version": "1", "profile": "tiny"}
    assert (document["picture"]["width"], document["picture"]["height"]) == (480, 360)
    assert pixels_of(base64.b64decode(document["picture"]["base64"])).shape == (360, 480, 3)
    report = document["faces"][0]["report"]
    assert report["chosen_reference"] == 0
    assert report["landmark_distance"]["unit"]
    assert base64.b64decode(report["change_map"]["png"]).startswith(b"\x89PNG")


@pytest.mark.parametrize(("diagnostics", "has_report"), [("none", False), ("summary", True), ("", True)])
def test_diagnostics(toy: Running, diagnostics: str, has_report: bool) -> None:
    response = toy.client.post(
        "/restore",
        files={"image": ANNA_PHOTO},
        data={"diagnostics": diagnostics},
        headers={"accept": "application/json"},
    )
    face = response.json()["faces"][0]
    assert ("report" in face) == has_report
    assert "change_map" not in face.get("report", {})


def test_multipart_mixed(toy: Running) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers={"accept": "multipart/mixed"})
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + response.content, policy=email.policy.HTTP)
    document, picture = message.iter_parts()  # type: ignore[attr-defined]
    assert "base64" not in json.loads(document.get_content())["picture"]
    alone = toy.client.post("/restore", files={"image": ANNA_PHOTO}).content
    assert picture.get_content() == alone


def test_server_timing_names_every_stage(toy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy.service.pipeline.ready_engine.restorer, "generator", Steerable(seconds=0.05))
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO})
    stages = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert list(stages) == ["queue", "decode", "align", "device", "encode"]
    assert all(0 <= float(value) < 5000 for value in stages.values())
    assert float(stages["device"]) >= 50


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"faces": "some"}, "faces"),
        ({"strength": "1.1"}, "strength"),
        ({"strength": "nan"}, "strength"),
        ({"color_fix": "x"}, "color_fix"),
        ({"upscale": "5"}, "upscale"),
        ({"upscale": "1.5"}, "upscale"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "0.5"}, "seed"),
        ({"format": "bmp"}, "format"),
        ({"quality": "0"}, "quality"),
        ({"diagnostics": "all"}, "diagnostics"),
        ({"colour_fix": "none"}, "colour_fix"),
    ],
)
def test_wrong_options_are_named(toy: Running, data: dict[str, str], named: str) -> None:
    response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, data=data)
    assert named in problem(response, "invalid-option", 422)


def test_wrong_pictures(toy: Running) -> None:
    def post(image: bytes) -> httpx.Response:
        return toy.client.post("/restore", files={"image": image})

    assert "no face" in problem(post(EMPTY_PHOTO), "no-face", 422)
    assert "empty" in problem(post(b""), "invalid-picture", 422)
    problem(post(b"just text"), "unsupported-media-type", 415)
    assert "truncated" in problem(post(ANNA_PHOTO[: len(ANNA_PHOTO) // 2]), "invalid-picture", 422)
    wide = file_of(np.zeros((4000, 17000, 3), np.uint8))
    assert "17000x4000" in problem(post(wide), "picture-too-large", 413)
    large = file_of(np.zeros((3000, 6000, 3), np.uint8))
    response = toy.client.post("/restore", files={"image": large}, data={"upscale": "2"})
    assert "enlarged 2 times the picture would have 72.0 megapixels" in problem(response, "picture-too-large", 413)


def test_wrong_references_are_told_by_number(toy: Running) -> None:
    def post(reference: bytes) -> httpx.Response:
        files = [("image", ANNA_PHOTO), ("references", ANNA_PHOTO), ("references", reference)]
        return toy.client.post("/restore", files=files)

    response = post(EMPTY_PHOTO)
    assert problem(response, "invalid-reference", 422).startswith("reference 2: no face")
    assert response.json()["reference"] == 1
    assert problem(post(b"text"), "unsupported-media-type", 415).startswith("reference 2: ")
    assert problem(post(ANNA_PHOTO[:300]), "invalid-reference", 422).startswith("reference 2: ")


def test_wrong_requests(toy: Running) -> None:
    def post(**how: object) -> httpx.Response:
        return toy.client.post("/restore", **how)  # type: ignore[arg-type]

    assert "image" in problem(post(files={"references": ANNA_PHOTO}), "invalid-request", 400)
    problem(post(json={"image": "x"}), "unsupported-media-type", 415)
    problem(post(), "unsupported-media-type", 415)
    problem(post(content=b"x", headers={"content-type": "multipart/form-data"}), "invalid-request", 400)
    cut = post(content=b"--b\r\nContent-Dis", headers={"content-type": "multipart/form-data; boundary=b"})
    problem(cut, "invalid-request", 400)
    problem(
        post(content=b"no boundary", headers={"content-type": "multipart/form-data; boundary=b"}),
        "invalid-request",
        400,
    )
    problem(post(files=[("image", ANNA_PHOTO), ("image", ANNA_PHOTO)]), "too-many-parts", 422)
    problem(post(files={"image": ANNA_PHOTO}, headers={"accept": "text/html"}), "not-acceptable", 406)
    jpeg = {"files": {"image": ANNA_PHOTO}, "data": {"format": "jpeg"}}
    problem(post(**jpeg, headers={"accept": "image/png"}), "not-acceptable", 406)
    problem(post(files={"image": ANNA_PHOTO}, headers={"x-request-timeout": "soon"}), "invalid-request", 400)
    problem(post(files={"image": ANNA_PHOTO}, data={"reference_set": "x"}), "reference-set-not-found", 404)
    both = post(files={"image": ANNA_PHOTO, "references": ANNA_PHOTO}, data={"reference_set": "x"})
    assert "either" in problem(both, "invalid-option", 422)


def test_unknown_paths_and_methods_are_problems(toy: Running) -> None:
    problem(toy.client.get("/nothing"), "not-found", 404)
    response = toy.client.get("/restore")
    problem(response, "method-not-allowed", 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("given", ["two words", "x" * 65, "a;b"])
def test_an_id_that_is_none_is_not_taken_over(toy: Running, given: str) -> None:
    answered = toy.client.get("/livez", headers={"x-request-id": given}).headers["x-request-id"]
    assert len(answered) == 32


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/startupz"])
def test_head(toy: Running, path: str) -> None:
    head, get = toy.client.head(path), toy.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]


def test_upload_limits() -> None:
    with running(max_file_bytes=20_000, max_request_bytes=50_000, max_references=1) as toy:
        large = {"image": b"\xff" * 30_000}
        assert "image" in problem(toy.client.post("/restore", files=large), "too-large", 413)
        many = [("image", b"x" * 19_000), ("references", b"x" * 19_000), ("references", b"")]
        problem(toy.client.post("/restore", files=many), "too-many-parts", 422)
        declared = toy.client.post("/restore", content=b"x" * 60_000, headers={"content-type": "multipart/form-data"})
        problem(declared, "too-large", 413)

        def endless() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n'
            yield from (b"1" * 1000 for _ in range(100))

        headers = {"content-type": "multipart/form-data; boundary=b"}
        problem(toy.client.post("/restore", content=endless(), headers=headers), "too-large", 413)
        assert toy.service.admission.requests == 0


def test_api_keys() -> None:
    with running(api_keys=(hash_key("one"), hash_key("two"))) as toy:
        for headers in ({}, {"authorization": "Bearer three"}, {"x-api-key": ""}, {"authorization": "Basic one"}):
            response = toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers=headers)
            problem(response, "unauthorized", 401)
            assert response.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer one"}, {"x-api-key": "two"}):
            assert toy.client.post("/restore", files={"image": ANNA_PHOTO}, headers=headers).status_code == 200
        assert toy.client.get("/readyz").status_code == 200
        files, one, two = {"references": ANNA_PHOTO}, {"x-api-key": "one"}, {"x-api-key": "two"}
        assert toy.client.put("/reference-sets/a", files=files, headers=one).status_code == 200
        problem(toy.client.get("/reference-sets/a", headers=two), "reference-set-not-found", 404)


def test_models_health_and_metrics(toy: Running) -> None:
    model = toy.client.get("/models").json()["models"][0]
    assert model["bundle"] == "toy" and model["digests"] == {"unet.safetensors": "0" * 64}
    health = toy.client.get("/health").json()
    assert health["status"] == "ready" and health["limits"]["references"] == 16 and not health["api_key_required"]
    toy.client.get("/someone-private")
    text = toy.client.get("/metrics").text
    assert "someone-private" not in text
    assert 'route="other"' in text
    names = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert names and all(name.startswith("honestface_") for name in names)
    assert toy.metric("honestface_ready") == 1


def test_no_cross_origin_calls_unless_allowed(toy: Running) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in toy.client.options("/restore", headers=asked).headers
    with running(cors_origins="https://elsewhere.example") as open_service:
        answer = open_service.client.options("/restore", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://elsewhere.example"


def test_what_a_format_cannot_hold(toy: Running) -> None:
    """An own WebP that is too wide when enlarged comes back as PNG; who asks for WebP is told before any work."""
    wide = file_of(photo(((200.0, 180.0), 240.0, ANNA), size=(8200, 360)), "WEBP")
    response = toy.client.post("/restore", files={"image": wide}, data={"upscale": "2"})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    response = toy.client.post("/restore", files={"image": wide}, data={"upscale": "2", "format": "webp"})
    assert "16383" in problem(response, "invalid-option", 422)


@pytest.mark.parametrize("count", [2, 3])
def test_more_faces_than_are_restored_at_once(count: int) -> None:
    """Three are over twice the number, and are not even aligned."""
    faces = [((150.0 + 300 * number, 180.0), 240.0, ANNA) for number in range(count)]
    crowd = file_of(photo(*faces, size=(1000, 360)))
    aligned: list[int] = []
    with running(queue_faces=1) as toy:
        restorer = toy.service.pipeline.ready_engine.restorer
        align = restorer.align
        restorer.align = lambda *given: aligned.append(1) or align(*given)  # type: ignore[method-assign, func-returns-value]
        response = toy.client.post("/restore", files={"image": crowd}, data={"faces": "all"})
        assert f"{count} faces were found, at most 1" in problem(response, "too-many-faces", 422)
        assert bool(aligned) == (count == 2)
        assert toy.client.get("/health").json()["limits"]["faces"] == 1
        assert toy.client.post("/restore", files={"image": crowd}).status_code == 200, "the largest alone"
