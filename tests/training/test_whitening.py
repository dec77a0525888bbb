import pytest
import torch
import torch.nn.functional as F

from training.verification import verify
from training.whitening import within_class_whitening


def test_a_known_value() -> None:
    """Two people, each at their mean plus and minus (2, 0) and (0, 1): W = diag(8, 2) / 3, half of it its mean."""
    around = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    means = torch.tensor([[10.0, 20], [30, 40]])
    embeddings = (means[:, None] + around).flatten(0, 1)
    weight, bias = within_class_whitening(embeddings, ["a"] * 4 + ["b"] * 4)
    within = 8 / 6 * torch.tensor([2.0, 0.5])  # 16 and 4 over 8 - 2
    shrunk = 0.5 * within + 0.5 * within.mean()
    assert torch.allclose(weight, torch.diag(shrunk.rsqrt()), atol=1e-6)
    assert torch.allclose(bias, -shrunk.rsqrt() * torch.tensor([20.0, 30]), atol=1e-5)


def test_people_are_told_apart_better() -> None:
    """Pictures of a person differ along two directions, and all faces share a third: neither says who it is."""
    generator = torch.Generator().manual_seed(0)
    who = torch.randn(60, 1, 16, generator=generator).repeat(1, 4, 1)
    pictures = who + 0.3 * torch.randn(60, 4, 16, generator=generator)
    pictures[..., :2] += 4 * torch.randn(60, 4, 2, generator=generator)
    pictures[..., 2] += 6
    embeddings = F.normalize(pictures, dim=2)
    weight, bias = within_class_whitening(embeddings[:40].flatten(0, 1), [str(i) for i in range(40) for _ in range(4)])
    unseen, people = embeddings[40:].flatten(0, 1), [str(i) for i in range(20) for _ in range(4)]
    whitened = F.normalize(unseen @ weight.T + bias, dim=1)
    before, after = verify(unseen, unseen, people), verify(whitened, whitened, people)
    assert before.auc < 0.9 < after.auc


def test_people_seen_once_say_nothing_about_it() -> None:
    with pytest.raises(ValueError, match="two embeddings"):
        within_class_whitening(torch.eye(3), ["a", "b", "c"])
