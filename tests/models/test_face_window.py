import pytest
import torch

from models.face_window import face_window, within_face
from models.geometry import FFHQ_512


@pytest.mark.parametrize("size", [64, 128, 512])
def test_eyes_nose_and_mouth_are_in_it_and_the_frames_border_is_not(size: int) -> None:
    window = face_window(size)
    for x, y in (FFHQ_512 * size / 512).astype(int):
        assert window[y, x] == 1
    border = torch.cat([window[0], window[-1], window[:, 0], window[:, -1]])
    assert (border == 0).all()
    assert window.diff(dim=0).abs().max() < 40 / size, "it fades"


def test_around_the_face_a_reference_says_nothing_to_the_bit() -> None:
    latent, reference = torch.randn(2, 2, 24, 128, 128)
    found = within_face(latent, reference)
    torch.testing.assert_close(found[:, :, 64:80, 60:70], reference[:, :, 64:80, 60:70])
    assert torch.equal(found[:, :, :10], latent[:, :, :10])
