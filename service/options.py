"""The options of POST /restore, and what the client wants to get back."""

from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.choices import LARGEST_UPSCALE, ColourFix, Diagnostics, Faces, PictureFormat
from models.picture import LONGEST_SIDE
from service.form import Form
from service.problems import INVALID_OPTION, NOT_ACCEPTABLE, Problem

MEDIA_TYPES: dict[PictureFormat, str] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
Body = Literal["image", "json", "mixed"]
#: What a reference set may be called, from first to last letter; in a path `.` and `..` are no names.
SET_ID = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"


class RestoreOptions(BaseModel):
    """Form fields of POST /restore."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reference_set: str | None = Field(
        None, description="Id of a reference set, instead of `references`.", json_schema_extra={"pattern": SET_ID}
    )
    faces: Faces = Field("largest", description="Which faces: the largest, all, or the picture is one aligned face.")
    strength: float = Field(1.0, ge=0, le=1, description="From the input's latent (0) to the restored one (1).")
    color_fix: ColourFix = Field("wavelet", description="How the input's colours are kept.")
    upscale: int = Field(
        1, ge=1, le=LARGEST_UPSCALE, description="So many times as large is the picture that comes back."
    )
    diagnostics: Diagnostics | None = Field(
        None, description="The honesty report; unset: `summary` where the answer can hold it."
    )
    seed: int | None = Field(
        None,
        ge=0,
        lt=2**63,
        description="Sample with this seed; unset: the posterior's mode. The embedded bundle has nothing to sample.",
    )
    format: PictureFormat | None = Field(
        None, description="Picture format; unset: the accepted one, the upload's own, or png."
    )
    quality: int = Field(95, ge=1, le=100, description="For jpeg and webp.")


OPTION_NAMES = frozenset(RestoreOptions.model_fields)


def read_options(form: Form) -> RestoreOptions:
    """The options that a form's fields hold; an empty field is as good as none.

    Raises:
        Problem: a value out of its range, with every wrong field named.
    """
    try:
        return RestoreOptions.model_validate({name: value for name, value in form.fields.items() if value != ""})
    except ValidationError as error:
        wrong = [{"option": str(each["loc"][0]), "message": each["msg"]} for each in error.errors()]
        detail = "; ".join(f"{each['option']}: {each['message']}" for each in wrong)
        raise Problem(INVALID_OPTION, detail, extra={"errors": wrong}) from error


@dataclass(frozen=True)
class Wanted:
    """What the answer is made of: its body, the picture format that the Accept header asks for, if it does, and the
    formats that it refuses: those of quality 0, and where the picture is the body those that it does not name."""

    body: Body
    format: PictureFormat | None
    refused: frozenset[PictureFormat] = frozenset()


def negotiate(accept: str | None) -> Wanted:
    """What to answer by an Accept header: the offer of the highest quality, the header's order deciding between equals.

    Raises:
        Problem: nothing that is accepted can be produced.
    """
    ranges = []
    for part in (accept or "*/*").split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        ranges.append((media_range, _quality(parameters)))
    refused = {media_range for media_range, quality in ranges if not quality > 0}
    if refused.issuperset(MEDIA_TYPES.values()):
        refused.add("image/*")
    best: tuple[float, Wanted] | None = None
    for media_range, quality in ranges:
        meant = [each for each in _MEANT.get(media_range, (media_range,)) if each in _OFFERS and each not in refused]
        if meant and quality > 0 and (best is None or quality > best[0]):
            best = (quality, _OFFERS[meant[0]])
    if best is None:
        offered = ", ".join([*MEDIA_TYPES.values(), "application/json", "multipart/mixed"])
        raise Problem(NOT_ACCEPTABLE, f"this route answers {offered}")
    wanted, qualities = best[1], dict(ranges)
    unnamed = 0.0 if wanted.body == "image" else 1.0

    def quality_of(media_type: str) -> float:
        return next((qualities[each] for each in (media_type, "image/*", "*/*") if each in qualities), unnamed)

    formats = frozenset(name for name, media_type in MEDIA_TYPES.items() if not quality_of(media_type) > 0)
    return replace(wanted, refused=formats)


_OFFERS: dict[str, Wanted] = {
    "image/*": Wanted("image", None),
    "application/json": Wanted("json", None),
    "multipart/mixed": Wanted("mixed", None),
    **{media_type: Wanted("image", name) for name, media_type in MEDIA_TYPES.items()},
}
#: What wider ranges mean: the first that is not refused.
_MEANT = {
    "*/*": ("image/*", "application/json", "multipart/mixed"),
    "application/*": ("application/json",),
    "multipart/*": ("multipart/mixed",),
}


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def picture_format(options: RestoreOptions, wanted: Wanted, uploaded: str, side: int) -> PictureFormat:
    """The format to answer in: the option, else the Accept header's, else the upload's own if it holds a picture of
    `side` pixels a side, else png; or the next that the header does not refuse.

    Raises:
        Problem: the option is a format that the header refuses for the answer's body.
    """
    if options.format and wanted.body == "image" and options.format in wanted.refused:
        raise Problem(
            NOT_ACCEPTABLE, f"the option format asks for {options.format}, which the Accept header does not take"
        )
    if chosen := options.format or wanted.format:
        return chosen
    left: list[PictureFormat] = [name for name in MEDIA_TYPES if name not in wanted.refused] or ["png"]
    fit = [name for name in left if side <= LONGEST_SIDE[name]]
    return next((name for name in fit if name == uploaded), (fit or left)[0])
