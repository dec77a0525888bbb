from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import NoFaceError, ReferencesError, TooReducedError
from models.face_restorer import FaceRestorer, Options, Prepared
from models.picture import Picture
from tests.models.recording import Recording
from tests.toy_faces import ANNA, BEN, CARL, ToyGenerator, analyzer, photo

PLAIN = Options(color_fix="none")


def restorer(generator: ToyGenerator | None = None) -> FaceRestorer:
    return FaceRestorer(generator or ToyGenerator(), analyzer())


def picture_of(*people: tuple[int, int, int]) -> Picture:
    places = [((120.0, 120.0), 200.0), ((350.0, 130.0), 160.0), ((230.0, 290.0), 110.0)]
    return Picture(photo(*[(centre, side, skin) for (centre, side), skin in zip(places, people, strict=False)]))


def gain_at(before: Picture, after: Picture, x: int, y: int) -> float:
    return float(after.pixels[y, x].astype(float).mean() - before.pixels[y, x].astype(float).mean()) / 127.5


def test_the_face_is_restored_and_the_rest_is_not_touched() -> None:
    before = picture_of(ANNA)
    result = restorer().restore(before, options=PLAIN)
    assert gain_at(before, result.picture, 120, 120) == pytest.approx(0.2, abs=0.01)
    assert np.array_equal(result.picture.pixels[:, 240:], before.pixels[:, 240:])
    assert len(result.faces) == len(result.reports) == 1


def test_largest_and_all() -> None:
    before = picture_of(BEN, ANNA, CARL)
    largest = restorer().restore(before, options=PLAIN)
    assert len(largest.faces) == 1 and gain_at(before, largest.picture, 350, 130) == 0
    everybody = restorer().restore(before, options=Options(faces="all", color_fix="none"))
    assert len(everybody.faces) == 3
    for x, y in ((120, 120), (350, 130), (230, 290)):
        assert gain_at(before, everybody.picture, x, y) == pytest.approx(0.2, abs=0.02)


def test_aligned_takes_the_whole_picture_back_to_its_size() -> None:
    for size in (512, 300, 700):
        before = Picture(photo(((size / 2, size / 2), size, ANNA), size=(size, size)))
        result = restorer().restore(before, options=Options(faces="aligned", color_fix="none"))
        assert result.picture.pixels.shape == before.pixels.shape
        assert gain_at(before, result.picture, 0, 0) == pytest.approx(0.2, abs=0.01), "no soft border"
        change = result.picture.pixels.astype(float) - before.pixels
        assert np.percentile(np.abs(change - 0.2 * 127.5), 90) < 2


def test_aligned_512_is_the_generator_bit_for_bit() -> None:
    before = Picture(photo(((255.5, 255.5), 512, ANNA), size=(512, 512)))
    result = restorer(ToyGenerator(gain=0.0)).restore(before, options=Options(faces="aligned", color_fix="none"))
    assert np.array_equal(result.picture.pixels, before.pixels)


def test_strength_reaches_the_generator() -> None:
    before = picture_of(ANNA)
    result = restorer().restore(before, options=Options(strength=0.5, color_fix="none"))
    assert gain_at(before, result.picture, 120, 120) == pytest.approx(0.1, abs=0.01)
    with pytest.raises(ValueError, match="strength is 0 to 1"):
        Options(strength=1.5)


@pytest.mark.parametrize("faces", ["largest", "aligned"])
def test_an_upscaled_picture_has_the_face_in_its_place(faces: str) -> None:
    size = (300, 300)
    before = Picture(photo(((150.0, 150.0), 200.0, ANNA), size=size), alpha=np.full(size, 200, np.uint8))
    plain, large = (
        restorer().restore(before, options=Options(faces=faces, color_fix="none", upscale=upscale))  # type: ignore[arg-type]
        for upscale in (1, 3)
    )
    assert large.picture.pixels.shape == (900, 900, 3)
    assert large.picture.alpha is not None and large.picture.alpha.shape == (900, 900)
    middles = large.picture.pixels[1::3, 1::3].astype(float)  # a pixel's centre is that of the nine it becomes
    assert np.abs(middles - plain.picture.pixels).mean() < 1.5
    assert large.faces[0].face.box == plain.faces[0].face.box
    assert np.array_equal(large.faces[0].crop, plain.faces[0].crop)


@pytest.mark.parametrize("upscale", [0, 5])
def test_upscale_is_bounded(upscale: int) -> None:
    with pytest.raises(ValueError, match="upscale is 1 to 4"):
        Options(upscale=upscale)


@pytest.mark.parametrize("fix", ["wavelet", "adain"])
def test_the_colour_fix_takes_a_cast_away(fix: str) -> None:
    before = picture_of(ANNA)
    result = restorer().restore(before, options=Options(color_fix=fix))  # type: ignore[arg-type]
    assert gain_at(before, result.picture, 120, 120) == pytest.approx(0, abs=0.01)


def test_references_go_to_the_face_that_is_nearest_to_them() -> None:
    tools = restorer()
    references = tools.prepare_references([picture_of(ANNA), picture_of(ANNA)])
    before = picture_of(BEN, ANNA, CARL)
    result = tools.restore(before, references, Options(faces="all", color_fix="none"))
    assert [len(face.report.references) for face in result.faces if face.report] == [0, 2, 0]
    assert gain_at(before, result.picture, 350, 130) == pytest.approx(0.28, abs=0.02)
    assert gain_at(before, result.picture, 120, 120) == pytest.approx(0.20, abs=0.02)


def test_nearest_is_who_is_near_to_all_of_them() -> None:
    """The first face is the double of one reference, and nothing like the other."""
    tools = restorer()
    (reference,) = tools.prepare_references([picture_of(ANNA)])
    references = [replace(reference, identity=torch.tensor(to)) for to in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))]
    (face,) = tools.prepare(picture_of(ANNA), PLAIN).faces
    faces = tuple(replace(face, identity=torch.tensor(to)) for to in ((1.0, 0.0, 0.0), (0.8, 0.6, 0.0)))
    jobs = tools.jobs(Prepared(picture_of(ANNA), faces), references, PLAIN)
    assert [len(job.references) for job in jobs] == [0, 2]


def test_prepared_references_are_aligned() -> None:
    (reference,) = restorer().prepare_references([picture_of(BEN, ANNA)])
    assert reference.image.shape == (3, 512, 512) and reference.landmarks.shape == (68, 2)
    assert reference.identity.shape == (3,) and reference.image.amin() >= -1


def test_a_reference_without_a_face_is_named() -> None:
    pictures = [picture_of(ANNA), picture_of()]
    with pytest.raises(NoFaceError, match=r"^reference 2: no face was found$"):
        restorer().prepare_references(pictures)
    with pytest.raises(NoFaceError, match=r"^b\.jpg: no face"):
        restorer().prepare_references(pictures, names=["a.jpg", "b.jpg"])


def test_a_model_without_identity_embedder_refuses_references() -> None:
    restorer = FaceRestorer(ToyGenerator(takes_references=False), analyzer())
    assert restorer.prepare_references([]) == []
    with pytest.raises(ReferencesError, match="without references only"):
        restorer.prepare_references([picture_of(ANNA)])


def test_no_face_is_an_error() -> None:
    for pixels in (photo(), np.zeros((1, 1, 3), np.uint8)):
        for faces in ("largest", "all"):
            with pytest.raises(NoFaceError, match="no face was found"):
                restorer().restore(Picture(pixels), options=Options(faces=faces))  # type: ignore[arg-type]


def test_a_face_at_the_edge_is_restored() -> None:
    before = Picture(photo(((60.0, 180.0), 300.0, ANNA)))
    result = restorer().restore(before, options=PLAIN)
    assert result.picture.pixels.shape == before.pixels.shape
    assert gain_at(before, result.picture, 2, 200) == pytest.approx(0.2, abs=0.02)


def test_a_tiny_face_is_restored() -> None:
    before = Picture(photo(((60.0, 60.0), 44.0, ANNA), size=(120, 120)))
    result = restorer().restore(before, options=PLAIN)
    assert gain_at(before, result.picture, 60, 60) == pytest.approx(0.2, abs=0.03)


def test_alpha_and_format_travel_along() -> None:
    pixels = picture_of(ANNA).pixels
    alpha = np.full(pixels.shape[:2], 77, np.uint8)
    result = restorer().restore(Picture(pixels, alpha, "webp"), options=PLAIN)
    assert result.picture.alpha is alpha and result.picture.format == "webp"


def test_no_diagnostics_no_reports() -> None:
    result = restorer().restore(picture_of(ANNA), options=Options(diagnostics="none"))
    assert result.reports == () and result.faces[0].report is None


def test_the_stages_batch_faces_of_many_requests() -> None:
    generator = ToyGenerator()
    tools = restorer(generator)
    options = Options(faces="all", color_fix="none")
    pictures = [picture_of(ANNA, BEN), picture_of(CARL)]
    references = tools.prepare_references([picture_of(CARL)])
    prepared = [tools.prepare(picture, options) for picture in pictures]
    jobs = [tools.jobs(prepared[0], (), options), tools.jobs(prepared[1], references, options)]
    restored = tools._generate([*jobs[0], *jobs[1]])  # what a GPU does, without one
    assert generator.batches == [3], "one pass"
    for picture, ready, job, crops in zip(pictures, prepared, jobs, (restored[:2], restored[2:]), strict=True):
        batched = tools.finish(ready, job, crops, options).picture.pixels
        alone = restorer().restore(picture, references if picture is pictures[1] else (), options).picture.pixels
        assert np.array_equal(batched, alone)


def test_each_face_of_a_pass_has_its_own_strength_and_seed() -> None:
    tools = restorer(generator := Recording())
    options = [Options(strength=0.25, seed=7), Options(strength=0.5)]
    prepared = tools.prepare(picture_of(ANNA), PLAIN)
    tools._generate([job for each in options for job in tools.jobs(prepared, (), each)])
    assert generator.asked == [(0.25, 7), (0.5, None)]


def test_on_a_cpu_every_face_is_a_pass_of_its_own() -> None:
    generator = ToyGenerator()
    restorer(generator).restore(picture_of(ANNA, BEN, CARL), options=Options(faces="all"))
    assert generator.batches == [1, 1, 1]
    assert restorer(generator).generate([]) == []


def test_a_reference_read_reduced_must_fill_its_crop() -> None:
    def reduced(*faces: tuple[tuple[float, float], float, tuple[int, int, int]]) -> Picture:
        return Picture(photo(*faces, size=(1500, 1300)), reduced=2)

    large, small = ((700.0, 650.0), 800.0, ANNA), ((700.0, 650.0), 480.0, ANNA)
    (reference,) = restorer().prepare_references([reduced(large)])
    (whole,) = restorer().prepare_references([Picture(photo(large, size=(1500, 1300)))])
    assert torch.equal(reference.image, whole.image)
    for faces in ((small,), (((700.0, 650.0), 200.0, ANNA),), ()):
        with pytest.raises(TooReducedError, match="in full"):
            restorer().prepare_references([reduced(*faces)])
