import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import Tensor

from models.colour_fix import apply
from models.monochrome import keep_monochrome

LEVEL = 1 / 127.5


def photo() -> Tensor:
    """`[1, 3, 512, 512]` in [-1, 1], in colours."""
    return torch.from_numpy(astronaut().copy()).permute(2, 0, 1)[None] / 127.5 - 1


def toned(axis: tuple[float, float, float], mean: tuple[float, float, float] = (0, 0, 0)) -> Tensor:
    """The photograph's mean of colours on a line in RGB."""
    return torch.tensor(mean)[:, None, None] + torch.tensor(axis)[:, None, None] * photo().mean(1, keepdim=True)


def chroma(picture: Tensor) -> float:
    """Mean distance in grey levels of the channels from their mean."""
    return float((picture - picture.mean(1, keepdim=True)).abs().mean()) / LEVEL


def with_stray(levels: float) -> Tensor:
    """A grey photograph with a second, independent tone of a deviation in grey levels, across the greys."""
    stripes = (torch.arange(512) // 32 % 2 * 2 - 1).float().expand(512, 512)
    return toned((1, 1, 1)) + levels * LEVEL * torch.tensor([1.0, -1.0, 0.0])[:, None, None] / 2**0.5 * stripes


@pytest.mark.parametrize("fix", ["wavelet", "adain"])
def test_grey_stays_grey(fix: str) -> None:
    grey = toned((1, 1, 1))
    blue_eyed = grey + 0.1 * (photo() - photo().mean(1, keepdim=True))
    assert chroma(blue_eyed) > 1
    kept = apply(blue_eyed, grey, fix)  # type: ignore[arg-type]
    assert chroma(kept) < 0.05
    assert float((kept - grey).abs().mean()) < 0.02  # what is bright and dark stays


def test_noise_in_colour_does_not_make_a_photograph_of_colours() -> None:
    noise = 12 * LEVEL * torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    assert chroma(keep_monochrome(photo(), toned((1, 1, 1)) + noise)) < 0.5


def test_sepia_stays_that_sepia() -> None:
    axis, mean = (0.9, 0.75, 0.6), (0.1, 0.0, -0.1)
    sepia = toned(axis, mean)
    kept = keep_monochrome(sepia + 0.1 * photo(), sepia)
    along = torch.tensor(axis) / torch.tensor(axis).norm()
    away = kept - torch.tensor(mean)[:, None, None]
    rest = away - along[:, None, None] * (along[:, None, None] * away).sum(1, keepdim=True)
    assert float(rest.abs().max()) < 0.01


def test_colours_come_back_to_the_bit() -> None:
    restored = photo().flip(3)
    assert keep_monochrome(restored, photo()) is restored
    assert keep_monochrome(restored, with_stray(4.6)) is restored


def test_between_one_tone_and_many_a_share_is_taken_away() -> None:
    """The stray of 3.75 grey levels is half way from 3 to 4.5."""
    left = [chroma(keep_monochrome(photo(), with_stray(stray))) for stray in (2.9, 3.75, 4.6)]
    assert left[0] < 0.3 and left[2] == pytest.approx(chroma(photo()))
    assert left[1] == pytest.approx(left[2] / 2, rel=0.1)


def test_a_flat_input_gives_greys() -> None:
    assert chroma(keep_monochrome(photo(), torch.zeros(1, 3, 512, 512))) < 0.01


def test_each_picture_of_a_batch_is_judged_by_itself() -> None:
    lq = torch.cat([photo(), toned((1, 1, 1))])
    kept = keep_monochrome(torch.cat([photo(), photo()]), lq)
    assert torch.equal(kept[:1], photo())
    assert torch.equal(kept[1:], keep_monochrome(photo(), lq[1:]))
    assert chroma(kept[1:]) < 0.05


def test_any_size_will_do() -> None:
    small = F.interpolate(toned((1, 1, 1)), (40, 24), mode="area")
    assert chroma(keep_monochrome(small + small.flip(1), small)) < 0.05
