import numpy as np
import pytest

from models.kept_detail import kept_detail

INNER = np.s_[40:-40, 40:-40]


def grained(level: float, deviation: float, seed: int = 0, size: int = 192) -> np.ndarray:
    grain = deviation * np.random.default_rng(seed).standard_normal((size, size, 1))
    return np.clip(level + grain, 0, 255).round().astype(np.uint8).repeat(3, 2)


def test_an_unchanged_face_kept_everything() -> None:
    face = grained(127, 20)
    assert kept_detail(face, face).min() > 0.999


def test_where_there_is_no_detail_none_was_kept() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    assert not kept_detail(flat, flat + np.uint8(9)).any()


def test_removed_grain_was_not_kept() -> None:
    assert not kept_detail(grained(127, 12), np.full((192, 192, 3), 127, np.uint8)).any()


def test_new_texture_on_a_smooth_face_says_nothing_about_what_was_there() -> None:
    assert not kept_detail(np.full((192, 192, 3), 127, np.uint8), grained(127, 12)).any()
    assert kept_detail(grained(127, 1.5), grained(127, 12, seed=1))[INNER].mean() < 0.01


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_weakened_detail_was_kept_in_part(share: float) -> None:
    face = grained(127, 25)
    weaker = np.rint(127 + share * (face.astype(float) - 127)).astype(np.uint8)
    assert np.abs(kept_detail(face, weaker)[INNER] - (share - 0.1) / 0.9).max() < 0.03


def test_each_place_counts_by_itself() -> None:
    face = grained(127, 20)
    after = face.copy()
    after[:, 96:] = 127
    kept = kept_detail(face, after)
    assert kept[:, :68].min() > 0.99 and kept[:, 124:].max() < 0.01
    assert (np.diff(kept[96]) < 0.1).all(), "it changes smoothly"
