import pytest

from service.form import Form
from service.options import MEDIA_TYPES, RestoreOptions, Wanted, negotiate, picture_format, read_options
from service.problems import Problem

EVERY_FORMAT_REFUSED = ", ".join(f"{kind};q=0" for kind in MEDIA_TYPES.values())


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, Wanted("image", None)),
        ("*/*", Wanted("image", None)),
        ("image/*", Wanted("image", None)),
        ("image/webp", Wanted("image", "webp", frozenset({"png", "jpeg"}))),
        ("application/json", Wanted("json", None)),
        ("multipart/mixed", Wanted("mixed", None)),
        ("text/html, application/json;q=0.5, image/jpeg;q=0.9", Wanted("image", "jpeg", frozenset({"png", "webp"}))),
        ("application/json, */*", Wanted("json", None)),
        ("IMAGE/PNG ; q=0.2", Wanted("image", "png", frozenset({"jpeg", "webp"}))),
        ("image/png;q=0, application/json;q=0.1", Wanted("json", None, frozenset({"png"}))),
        ("image/png;q=x, application/json;q=0.1", Wanted("json", None, frozenset({"png"}))),
        ("", Wanted("image", None)),
        ("image/png;q=0, image/*", Wanted("image", None, frozenset({"png"}))),
        ("*/*, image/jpeg;q=0", Wanted("image", None, frozenset({"jpeg"}))),
        ("*/*;q=0, image/webp", Wanted("image", "webp", frozenset({"png", "jpeg"}))),
        ("image/avif,image/webp,image/*,*/*;q=0.8", Wanted("image", "webp")),
        ("image/png, */*;q=0.1", Wanted("image", "png")),
        ("image/*;q=0, */*", Wanted("json", None, frozenset(MEDIA_TYPES))),
        (EVERY_FORMAT_REFUSED + ", */*", Wanted("json", None, frozenset(MEDIA_TYPES))),
        ("image/*;q=0, application/*;q=0, application/json;q=0, */*", Wanted("mixed", None, frozenset(MEDIA_TYPES))),
    ],
)
def test_negotiation(accept: str | None, wanted: Wanted) -> None:
    assert negotiate(accept) == wanted


@pytest.mark.parametrize(
    "accept", ["text/html", "image/gif", "image/png;q=0", ",", "*/*;q=0", EVERY_FORMAT_REFUSED + ", image/*"]
)
def test_what_cannot_be_produced(accept: str) -> None:
    with pytest.raises(Problem, match="not-acceptable"):
        negotiate(accept)


def test_the_format_is_the_options_then_the_headers_then_the_uploads_then_png() -> None:
    any_image, webp = Wanted("image", None), negotiate("image/webp, image/*;q=0.5")
    assert picture_format(RestoreOptions(format="jpeg"), webp, "png", 512) == "jpeg"
    assert picture_format(RestoreOptions(), webp, "jpeg", 512) == "webp"
    assert picture_format(RestoreOptions(), any_image, "jpeg", 512) == "jpeg"
    assert picture_format(RestoreOptions(), any_image, "tiff", 512) == "png"
    assert picture_format(RestoreOptions(), any_image, "webp", 20_000) == "png", "WebP holds 16,383 pixels a side"


@pytest.mark.parametrize(
    ("accept", "body"),
    [
        ("image/jpeg;q=0, image/*", None),
        ("image/png", None),
        (None, "image"),
        ("image/png, image/jpeg;q=0.1", "image"),
        ("image/png, */*;q=0.1", "image"),
        ("image/*;q=0, image/jpeg", "image"),
        ("application/json, image/jpeg;q=0", "json"),
        ("multipart/mixed", "mixed"),
    ],
)
def test_a_format_that_is_asked_for_has_to_be_accepted_where_it_is_the_body(
    accept: str | None, body: str | None
) -> None:
    wanted, options = negotiate(accept), RestoreOptions(format="jpeg")
    if body is None:
        with pytest.raises(Problem, match="not-acceptable: the option format asks for jpeg"):
            picture_format(options, wanted, "png", 512)
    else:
        assert wanted.body == body and picture_format(options, wanted, "png", 512) == "jpeg"


def test_a_refused_format_is_not_fallen_back_to() -> None:
    no_png, only_webp = Wanted("image", None, frozenset({"png"})), Wanted("image", None, frozenset({"png", "jpeg"}))
    assert picture_format(RestoreOptions(), no_png, "png", 512) == "jpeg"
    assert picture_format(RestoreOptions(), no_png, "webp", 512) == "webp"
    assert picture_format(RestoreOptions(), no_png, "tiff", 512) == "jpeg"
    assert picture_format(RestoreOptions(), only_webp, "jpeg", 512) == "webp"
    assert picture_format(RestoreOptions(), only_webp, "jpeg", 20_000) == "webp", "too large for it: told as an option"
    assert picture_format(RestoreOptions(), Wanted("json", None, frozenset(MEDIA_TYPES)), "webp", 512) == "png"


def test_every_wrong_option_is_named_at_once() -> None:
    with pytest.raises(Problem) as caught:
        read_options(Form(fields={"strength": "2", "faces": "x", "seed": "1"}))
    assert [each["option"] for each in caught.value.extra["errors"]] == ["faces", "strength"]


def test_an_empty_field_is_as_good_as_none() -> None:
    assert read_options(Form(fields={"seed": "", "strength": "0.5"})) == RestoreOptions(strength=0.5)
