"""Multipart forms read as they stream in, under limits, into memory: nothing is spooled to disk."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.problems import INVALID_OPTION, INVALID_REQUEST, TOO_LARGE, TOO_MANY_PARTS, UNSUPPORTED_MEDIA_TYPE, Problem

MAX_FIELD_BYTES = 4096


@dataclass(frozen=True)
class FormLimits:
    """Limits on a form: bytes of a file and of the whole body, and the number of files and fields by name."""

    file_bytes: int
    request_bytes: int
    files: dict[str, int]
    fields: frozenset[str]

    def request_too_large(self) -> Problem:
        return Problem(TOO_LARGE, f"a request may have at most {self.request_bytes} bytes")


@dataclass
class Form:
    """What a form held: the bytes of its files and the text of its fields, by name.

    A file without name and bytes is none: so browsers send a file input in which nothing was chosen.
    """

    files: dict[str, list[bytes]] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(content_type: str, chunks: AsyncIterator[bytes], limits: FormLimits) -> Form:
    """Reads a multipart/form-data body and stops at the first byte over a limit.

    Raises:
        Problem: another media type, a malformed body, an unknown part, or a limit passed.
    """
    media_type, options = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "send the files as multipart/form-data")
    boundary = options.get(b"boundary")
    if not boundary:
        raise Problem(INVALID_REQUEST, "the Content-Type names no multipart boundary")
    reader = _Reader(limits)
    total = 0
    try:
        parser = MultipartParser(boundary, reader.callbacks())  # type: ignore[arg-type]
        async for chunk in chunks:
            total += len(chunk)
            if total > limits.request_bytes:
                raise limits.request_too_large()
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Problem(INVALID_REQUEST, "the multipart body is malformed") from error
    if not reader.complete:
        raise Problem(INVALID_REQUEST, "the multipart body ends early")
    return reader.form


class _Reader:
    """Collects the parser's callbacks into a form."""

    def __init__(self, limits: FormLimits) -> None:
        self.limits = limits
        self.form = Form()
        self.complete = False
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value = bytearray(), bytearray()
        self._name, self._is_file, self._file_name, self._data = "", False, b"", bytearray()

    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._part_begin,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value_data,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_end": self._end,
        }

    def _part_begin(self) -> None:
        self._headers = {}
        self._data = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name, self._header_value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise Problem(INVALID_REQUEST, "a part of the form has no name")
        self._name = options[b"name"].decode("utf-8", "replace")
        self._is_file = self._name in self.limits.files
        self._file_name = options.get(b"filename", b"")
        if self._is_file:
            if self._file_name:
                self._check_number()
        elif self._name not in self.limits.fields:
            known = ", ".join(sorted([*self.limits.files, *self.limits.fields]))
            raise Problem(INVALID_OPTION, f"unknown part '{self._name[:40]}'; known are {known}")
        elif self._name in self.form.fields:
            raise Problem(TOO_MANY_PARTS, f"'{self._name}' is given twice")

    def _check_number(self) -> None:
        most = self.limits.files[self._name]
        if len(self.form.files.get(self._name, [])) >= most:
            raise Problem(TOO_MANY_PARTS, f"at most {most} file(s) are taken as '{self._name}'")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._check_number()
        most = self.limits.file_bytes if self._is_file else MAX_FIELD_BYTES
        if len(self._data) + end - start > most:
            raise Problem(TOO_LARGE, f"'{self._name}' may have at most {most} bytes")
        self._data += data[start:end]

    def _part_end(self) -> None:
        if self._is_file:
            if self._file_name or self._data:
                self.form.files.setdefault(self._name, []).append(bytes(self._data))
        else:
            self.form.fields[self._name] = self._data.decode("utf-8", "replace")

    def _end(self) -> None:
        self.complete = True
