"""Files without bytes: what browsers send for a file input in which nothing was chosen, and files that are empty."""

import httpx
import pytest

from tests.service.running import ANNA_PHOTO, Running, problem, running

HEADERS = {"content-type": "multipart/form-data; boundary=b"}


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """A form of files: their part's name, their own, and their bytes."""
    head = '--b\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\nContent-Type: image/png\r\n\r\n'
    return b"".join((head % part[:2]).encode() + part[2] + b"\r\n" for part in parts) + b"--b--\r\n"


def restore(toy: Running, *parts: tuple[str, str, bytes]) -> httpx.Response:
    return toy.client.post("/restore", content=form(*parts), headers=HEADERS)


PHOTO, NOTHING = ("image", "photo.png", ANNA_PHOTO), ("references", "", b"")


def test_a_file_input_in_which_nothing_was_chosen(toy: Running) -> None:
    blind = restore(toy, PHOTO)
    answer = restore(toy, PHOTO, NOTHING)
    assert answer.status_code == 200 and answer.content == blind.content
    assert "no file 'image'" in problem(restore(toy, ("image", "", b"")), "invalid-request", 400)
    put = toy.client.put("/reference-sets/none", content=form(NOTHING), headers=HEADERS)
    assert "no file 'references'" in problem(put, "invalid-request", 400)


def test_it_counts_for_no_file() -> None:
    with running(max_references=1) as toy:
        reference = ("references", "ref.png", ANNA_PHOTO)
        assert restore(toy, PHOTO, reference, NOTHING).status_code == 200
        problem(restore(toy, PHOTO, reference, ("references", "", ANNA_PHOTO)), "too-many-parts", 422)


@pytest.mark.parametrize("index", [0, 1])
def test_an_empty_file_with_a_name_is_refused(toy: Running, index: int) -> None:
    files = [("references", "ref.png", ANNA_PHOTO)]
    files.insert(index, ("references", "empty.png", b""))
    put = toy.client.put("/reference-sets/empty", content=form(*files), headers=HEADERS)
    for response in (restore(toy, PHOTO, NOTHING, *files), put):
        assert problem(response, "invalid-reference", 422).startswith(f"reference {index + 1}: ")
        assert response.json()["reference"] == index
