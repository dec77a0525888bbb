import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import AsyncClient, Client, Restored, ServiceError
from service.keys import hash_key
from tests.service.running import ANNA_PHOTO, EMPTY_PHOTO, Running, pixels_of, running


@pytest.fixture(scope="module")
def toy() -> Iterator[Running]:
    with running(api_keys=(hash_key("key"),)) as service:
        yield service


def test_restores_from_paths_and_bytes(toy: Running, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(ANNA_PHOTO)
    with Client(toy.url, api_key="key") as client:
        restored = client.restore(photo, references=[ANNA_PHOTO, str(photo)], strength=0.5, format="webp", seed=None)
        restored.save(tmp_path / "out.webp")
        assert restored.media_type == "image/webp"
        assert pixels_of((tmp_path / "out.webp").read_bytes()).shape == (360, 480, 3)
        assert len(restored.faces[0]["report"]["references"]) == 2
        assert client.models()[0]["bundle"] == "toy"


def test_reference_sets(toy: Running) -> None:
    with Client(toy.url, api_key="key") as client:
        assert client.put_references("album.1", [ANNA_PHOTO])["references"] == 1
        assert client.get_references("album.1")["ttl_seconds"] == 3600
        assert client.restore(ANNA_PHOTO, reference_set="album.1").faces[0]["report"]["chosen_reference"] == 0
        client.delete_references("album.1")
        with pytest.raises(ServiceError) as caught:
            client.restore(ANNA_PHOTO, reference_set="album.1")
        assert caught.value.status == 404


def test_problems_are_told(toy: Running) -> None:
    with Client(toy.url, api_key="key") as client, pytest.raises(ServiceError, match="no face") as caught:
        client.restore(EMPTY_PHOTO)
    assert caught.value.problem["type"] == "urn:honestface:problem:no-face"
    with Client(toy.url, api_key="other") as client, pytest.raises(ServiceError, match="401"):
        client.models()


def test_waits_when_the_service_is_busy(toy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        toy.service.admission.draining = len(pauses) < 2

    toy.service.admission.draining = True
    monkeypatch.setattr("service.client.time.sleep", sleep)
    with Client(toy.url, api_key="key") as client:
        assert client.restore(ANNA_PHOTO).faces
        assert pauses == [5.0, 5.0]
        toy.service.admission.draining = True
    with Client(toy.url, api_key="key", retries=0) as client, pytest.raises(ServiceError, match="503"):
        client.restore(ANNA_PHOTO)
    toy.service.admission.draining = False


def test_asks_again_when_a_proxy_has_lost_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ray Serve answers for a replica that died; a 500 of the service's own is a problem document and stands."""
    pauses: list[float] = []
    monkeypatch.setattr("service.client.time.sleep", pauses.append)
    lost, problem = httpx.Response(500, text="Internal Server Error"), httpx.Response(500, json={"title": "wrong"})
    problem.headers["content-type"] = "application/problem+json"
    answers = iter([lost, lost, httpx.Response(200, json={"models": [{"bundle": "toy"}]}), problem])
    with Client("http://service") as client:
        client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(lambda _: next(answers)))
        assert client.models() == [{"bundle": "toy"}] and pauses == [1.0, 1.0]
        with pytest.raises(ServiceError, match="wrong"):
            client.models()
        client.close()


def test_the_asynchronous_client(toy: Running) -> None:
    async def ask() -> list[Restored]:
        async with AsyncClient(toy.url, api_key="key") as client:
            await client.put_references("set", [ANNA_PHOTO])
            assert (await client.get_references("set"))["references"] == 1
            with pytest.raises(ServiceError):
                await client.restore(EMPTY_PHOTO)
            both = await asyncio.gather(*(client.restore(ANNA_PHOTO, reference_set="set") for _ in range(2)))
            await client.delete_references("set")
            assert (await client.models())[0]["profile"] == "tiny"
            return both

    first, second = asyncio.run(ask())
    assert first.picture == second.picture


@pytest.mark.parametrize("name", [".", ".."])
def test_names_that_a_path_cannot_hold_are_not_sent(name: str) -> None:
    def asked(request: httpx.Request) -> httpx.Response:
        pytest.fail(f"{request.method} {request.url}")

    with Client("http://service") as client:
        client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(asked))
        for call in (lambda: client.put_references(name, []), lambda: client.delete_references(name)):
            with pytest.raises(ValueError, match="cannot be called"):
                call()


LOST = [httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError]


@pytest.mark.parametrize("lost", LOST)
def test_waits_while_nobody_listens(monkeypatch: pytest.MonkeyPatch, lost: type[httpx.TransportError]) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("service.client.time.sleep", pauses.append)

    def refuse_twice(request: httpx.Request) -> httpx.Response:
        if len(pauses) < 2:
            raise lost("lost")
        return httpx.Response(200, json={"models": []})

    with Client("http://service") as client:
        client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(refuse_twice))
        assert client.models() == [] and pauses == [1.0, 2.0]
    with Client("http://127.0.0.1:1", retries=1) as client, pytest.raises(httpx.ConnectError):
        client.models()
    assert pauses == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("lost", LOST)
def test_the_asynchronous_client_asks_again_while_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, lost: type[httpx.TransportError]
) -> None:
    monkeypatch.setattr("service.client._LOST_PAUSE", 0.001)
    asked: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise lost("lost")

    async def ask() -> None:
        async with AsyncClient("http://service", retries=2) as client:
            client._http = httpx.AsyncClient(base_url="http://service", transport=httpx.MockTransport(refuse))
            await client.models()

    with pytest.raises(lost):
        asyncio.run(ask())
    assert asked == ["/models"] * 3


def test_a_proxys_date_is_no_number_of_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("service.client.time.sleep", pauses.append)
    busy = httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"})
    with Client("http://service", retries=1) as client, pytest.raises(ServiceError, match="503"):
        client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(lambda _: busy))
        client.models()
    assert pauses == [1.0]


def test_waits_a_minute_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("service.client.time.sleep", pauses.append)
    busy = httpx.Response(429, headers={"retry-after": "3600"})
    with Client("http://service", retries=1) as client, pytest.raises(ServiceError, match="429"):
        client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(lambda _: busy))
        client.models()
    assert pauses == [60.0]


def test_the_service_is_told_how_long_the_answer_is_waited_for() -> None:
    asked: list[str] = []

    def note(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["x-request-timeout"])
        return httpx.Response(422)

    with Client("http://service", timeout=7.5) as client, pytest.raises(ServiceError):
        client._http = httpx.Client(base_url="http://service", transport=httpx.MockTransport(note))
        client.restore(ANNA_PHOTO)
    assert asked == ["7.5"]


def test_a_single_reference_needs_no_list(toy: Running, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(ANNA_PHOTO)
    with Client(toy.url, api_key="key") as client:
        for reference in (str(photo), photo, ANNA_PHOTO):
            assert len(client.restore(ANNA_PHOTO, reference).faces[0]["report"]["references"]) == 1
            assert client.put_references("single", reference)["references"] == 1


def test_a_set_without_references_is_not_sent() -> None:
    async def put() -> None:
        async with AsyncClient("http://127.0.0.1:1", retries=0) as client:
            await client.put_references("none", [])

    with Client("http://127.0.0.1:1", retries=0) as client, pytest.raises(ValueError, match="at least one"):
        client.put_references("none", [])
    with pytest.raises(ValueError, match="at least one"):
        asyncio.run(put())


@pytest.mark.parametrize(
    ("media_type", "fitting", "other"),
    [
        ("image/jpeg", ["a.jpg", "a.JPEG", "a", "a.2"], ["a.png", "a.webp", "a.tiff"]),
        ("image/png", ["a.png", "a.PNG"], ["a.jpg", "a.b.jpeg"]),
        ("image/webp", ["a.webp"], ["a.png"]),
    ],
)
def test_a_picture_is_saved_as_what_it_is(
    tmp_path: Path, media_type: str, fitting: list[str], other: list[str]
) -> None:
    restored = Restored(b"picture", media_type, [], {}, "id")
    for name in fitting:
        restored.save(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"picture"
    for name in other:
        with pytest.raises(ValueError, match=f"the picture is {media_type}, not"):
            restored.save(str(tmp_path / name))
        assert not (tmp_path / name).exists()
