"""The tables of docs/service.md held against the code that they describe."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from service import client
from service.answer_schema import DOCUMENT_SCHEMA
from service.app import create_app
from service.metrics import Metrics
from service.options import OPTION_NAMES, RestoreOptions
from service.problems import KINDS
from service.settings import Settings
from tests.service.running import toy_engine

DOCUMENT = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading."""
    lines = DOCUMENT.split(f"# {heading}\n", 1)[1].split("\n#")[0].splitlines()
    table = [line for line in lines if line.startswith("|")][2:]
    assert table
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def app() -> FastAPI:
    return create_app(Settings(), toy_engine)


def test_links_between_documents_lead_somewhere() -> None:
    root = Path(__file__).parents[2]
    for document in (root / "README.md", *root.glob("docs/**/*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            assert "://" in target or (document.parent / target).exists(), f"{document.name}: {target}"


def test_routes() -> None:
    documented = {path for cells in rows("Routes") for path in re.findall(r"/[^`,]*", cells[0])}
    assert documented == {*app().openapi()["paths"], "/", "/openapi.json"}


def test_options() -> None:
    documented = {cells[0].strip("`"): cells[1] for cells in rows("POST /restore")}
    assert set(documented) == {"image", "references", *OPTION_NAMES}
    for name, field in RestoreOptions.model_fields.items():
        for value in getattr(field.annotation, "__args__", ()):
            assert not isinstance(value, str) or f"`{value}`" in documented[name], name


def test_the_json_answer_and_the_honesty_report() -> None:
    report = "faces[].report."
    fields = dict(_fields(DOCUMENT_SCHEMA))
    answer = [name for cells in rows("The JSON answer") for name in re.findall("`([^`]*)`", cells[0])]
    assert answer == [name for name in fields if not name.startswith(report)] + [report.rstrip(".")]
    documented = [(cells[0].strip("`"), cells[1]) for cells in rows("The honesty report")]
    assert documented == [(n.removeprefix(report), unit) for n, unit in fields.items() if n.startswith(report)]


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The names of a document's fields, with units where they have one."""
    for name, each in schema["properties"].items():
        inner = each.get("items", each)
        if "unit" in (parts := inner.get("properties", {})):
            yield path + name, parts["unit"]["const"]
        elif parts:
            yield from _fields(inner, f"{path}{name}{'[]' if inner is not each else ''}.")
        else:
            yield path + name, ""


def test_the_clients_examples_save_what_comes_back() -> None:
    for text in (DOCUMENT, client.__doc__ or ""):
        (given, saved) = re.findall(r'\b(?:photo|restored)(\.\w+)"', text.split("with Client(")[1])[:2]
        assert given == saved


def test_problems() -> None:
    assert sorted(rows("Problems")) == sorted([f"`{k.name}`", str(k.status), k.title] for k in KINDS.values())


def test_settings() -> None:
    assert rows("Settings") == [
        [f"`HONESTFACE_{name.upper()}`", "" if field.default in (None, ()) else f"`{field.default}`", field.description]
        for name, field in Settings.model_fields.items()
    ]


def test_metrics() -> None:
    assert rows("Metrics") == list(_metrics())


def test_no_series_tells_when_another_was_made() -> None:
    assert b"_created" not in Metrics().exposition()


def _metrics() -> Iterator[list[str]]:
    registry = Metrics().registry
    for collector in dict.fromkeys(registry._names_to_collectors.values()):
        (family, *_) = collector.collect()
        if not family.name.startswith("honestface_process"):
            name = family.name + ("_total" if family.type == "counter" else "")
            yield [f"`{name}`", family.type, ", ".join(collector._labelnames), family.documentation]
