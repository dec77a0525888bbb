import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.form import Form, FormLimits, read_form
from service.problems import Problem

LIMITS = FormLimits(100, 1000, {"image": 1, "references": 2}, frozenset({"seed"}))
BODY = (
    b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n'
    b'--b\r\nContent-Disposition: form-data; name="references"\r\n\r\none\r\n'
    b'--b\r\nContent-Disposition: form-data; name="references"; filename=""\r\n\r\n\r\n'
    b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n7\r\n--b--\r\n'
)


def read(
    body: bytes, chunk: int = 10**6, limits: FormLimits = LIMITS, kind: str = "multipart/form-data; boundary=b"
) -> Form:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), chunk):
            yield body[start : start + chunk]

    return asyncio.run(read_form(kind, chunks(), limits))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1000])
def test_a_form_reads_the_same_in_any_chunks(chunk: int) -> None:
    form = read(BODY, chunk)
    assert form.files == {"image": [b"\x89PNG"], "references": [b"one"]}
    assert form.fields == {"seed": "7"}


def test_only_without_name_and_bytes_a_file_is_none() -> None:
    def files(name: str, data: bytes) -> dict[str, list[bytes]]:
        head = f'--b\r\nContent-Disposition: form-data; name="image"{name}\r\n\r\n'
        return read(head.encode() + data + b"\r\n--b--\r\n").files

    assert files('; filename=""', b"") == files("", b"") == {}
    assert files('; filename="a"', b"") == {"image": [b""]}
    assert files('; filename=""', b"x") == files("", b"x") == {"image": [b"x"]}


def test_another_media_type_is_told_for_pictures_and_references_alike() -> None:
    with pytest.raises(Problem, match="send the files as multipart/form-data"):
        read(BODY, kind="application/json")


def test_the_first_byte_too_many_ends_it() -> None:
    taken = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken
        yield b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n'
        while True:
            taken += 10
            yield b"x" * 10

    with pytest.raises(Problem, match="'image' may have at most 100 bytes"):
        asyncio.run(read_form("multipart/form-data; boundary=b", chunks(), LIMITS))
    assert taken <= 110


@pytest.mark.parametrize("chunk", [1000, 10**6])
def test_a_field_is_short(chunk: int) -> None:
    limits = replace(LIMITS, request_bytes=10_000)
    head, tail = b'--b\r\nContent-Disposition: form-data; name="seed"\r\n\r\n', b"\r\n--b--\r\n"
    assert len(read(head + 4096 * b"7" + tail, chunk, limits).fields["seed"]) == 4096
    with pytest.raises(Problem, match="'seed' may have at most 4096 bytes"):
        read(head + 4097 * b"7" + tail, chunk, limits)


def test_a_body_over_the_limit_ends_even_when_no_file_is() -> None:
    with pytest.raises(Problem, match="too-large: a request may have"):
        read(b"-" * 2000)


@given(st.binary(max_size=300), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_form_or_a_problem(noise: bytes, chunk: int) -> None:
    for body in (noise, b"--b\r\n" + noise, BODY[: len(noise)] + noise, BODY[:80] + noise + BODY[80:]):
        try:
            read(body, chunk)
        except Problem as problem:
            assert problem.kind.status in (400, 413, 415, 422)
