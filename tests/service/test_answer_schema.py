"""The schema of the JSON answer in OpenAPI, held against real answers."""

import math
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from models.aligned_face import whole_picture
from models.honesty_report import ReferenceEvidence, honesty_report
from service.answer_schema import DOCUMENT_EXAMPLE, DOCUMENT_SCHEMA
from tests.pictures import file
from tests.service.running import ANNA_PHOTO, Running, pixels_of
from tests.toy_faces import ANNA, BEN, analyzer, photo

MAPS = {"attention_map", "change_map"}


def strict(schema: Any) -> Any:
    """The schema without room for what it does not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {name: strict(each) for name, each in schema.items()} | closed


def validate(document: Any, schema: Any = DOCUMENT_SCHEMA) -> None:
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(strict(schema)).validate(document)


@pytest.mark.parametrize("references", [0, 2])
@pytest.mark.parametrize("diagnostics", ["none", "summary", "full"])
def test_real_answers(toy: Running, diagnostics: str, references: int) -> None:
    response = toy.client.post(
        "/restore",
        files=[("image", ANNA_PHOTO), *[("references", ANNA_PHOTO)] * references],
        data={"diagnostics": diagnostics},
        headers={"accept": "application/json"},
    )
    described = toy.client.get("/openapi.json").json()["paths"]["/restore"]["post"]["responses"]["200"]
    assert described["content"]["application/json"]["schema"] == DOCUMENT_SCHEMA
    validate(response.json())
    (face,) = response.json()["faces"]
    assert ("report" in face) == (diagnostics != "none")
    assert set(face.get("report", {})) & MAPS == (MAPS if diagnostics == "full" else set())


def test_what_a_file_says_of_itself_is_answered(toy: Running) -> None:
    def answered(image: bytes, *references: bytes) -> tuple[dict[str, bool], list[bool]]:
        files = [("image", image), *(("references", each) for each in references)]
        response = toy.client.post("/restore", files=files, headers={"accept": "application/json"})
        (face,) = response.json()["faces"]
        return response.json()["upload"], [each["generated"] for each in face["report"]["references"]]

    restored = toy.client.post("/restore", files={"image": ANNA_PHOTO}).content
    plain = {"first_of_several": False, "generated": False}
    assert answered(ANNA_PHOTO, restored, ANNA_PHOTO) == (plain, [True, False])
    assert answered(restored) == (plain | {"generated": True}, [])
    pages = [Image.fromarray(pixels_of(ANNA_PHOTO))] * 2
    tiff = file(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert answered(tiff) == (plain | {"first_of_several": True}, [])


def test_what_a_report_may_leave_open() -> None:
    face, other = (
        whole_picture(analyzer(), photo(((255.5, 255.5), 512.0, skin), size=(512, 512))) for skin in (ANNA, BEN)
    )
    report = replace(
        honesty_report(analyzer(), face, other.crop, ()),
        references=(ReferenceEvidence(math.inf, 90.0, 90.0, None, True, False),),
        affine_landmark_distance_eyes=math.inf,
        affine_landmark_distance_mouth=math.inf,
    )
    schema = DOCUMENT_SCHEMA["properties"]["faces"]["items"]["properties"]["report"]
    summary: Any = report.summary()
    validate(summary, schema)
    assert summary["affine_landmark_distance_eyes"]["value"] is None
    assert summary["chosen_reference"] is None and summary["references"][0]["wrong_person"] is None


def test_the_example_shows_every_field(toy: Running) -> None:
    validate(DOCUMENT_EXAMPLE)
    described = toy.client.get("/openapi.json").json()["paths"]["/restore"]["post"]["responses"]["200"]
    (face,) = described["content"]["application/json"]["example"]["faces"]
    shape = DOCUMENT_SCHEMA["properties"]["faces"]["items"]["properties"]
    assert set(face) == set(shape) and set(face["report"]) == set(shape["report"]["properties"])
