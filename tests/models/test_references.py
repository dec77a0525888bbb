import math

import pytest
import torch
from torch import Tensor

from models.errors import GeometryError
from models.references import Reference, References, segment_argmin, segment_softmax, segment_sum


def reference(value: float) -> Reference:
    return Reference(torch.full((3, 8, 8), value), torch.full((68, 2), value), torch.full((5,), value))


OWNER = torch.tensor([0, 0, 0, 2, 3, 3])


def values(*shape: int) -> Tensor:
    return torch.randn(len(OWNER), *shape, generator=torch.Generator().manual_seed(0))


def test_packs_rows_in_the_order_of_the_images() -> None:
    packed = References.pack([[reference(1.0), reference(2.0)], [], [reference(3.0)]])
    assert packed is not None
    assert packed.images.shape == (3, 3, 8, 8)
    assert packed.landmarks.shape == (3, 68, 2)
    assert packed.identity[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert packed.owner.tolist() == [0, 0, 2]
    assert packed.owner.dtype == torch.int64
    assert packed.batch == 3


def test_no_reference_at_all_packs_to_none() -> None:
    assert References.pack([[], []]) is None
    assert References.pack([]) is None


def test_a_part_has_the_references_of_some_images() -> None:
    known = [reference(1.0), reference(2.0), reference(3.0)]
    packed = References.pack([known[:2], [], known[2:]])
    assert packed is not None and packed.sources == tuple(known)
    first, none, last = packed.part(0, 1), packed.part(1, 2), packed.part(1, 3)
    assert none is None
    assert first is not None and last is not None
    assert first.identity[:, 0].tolist() == [1.0, 2.0]
    assert (last.identity[:, 0].tolist(), last.owner.tolist(), last.batch) == ([3.0], [1], 2)
    assert last.sources == (known[2],)
    assert packed.part(0, 3) is packed, "pictures of the whole batch are not copied"


def test_all_parts_move_to_a_device() -> None:
    packed = References.pack([[reference(1.0)]])
    assert packed is not None
    moved = packed.to("meta")
    assert {part.device.type for part in (moved.images, moved.landmarks, moved.identity, moved.owner)} == {"meta"}
    assert moved.batch == 1


def test_a_reference_says_what_is_wrong_with_it() -> None:
    with pytest.raises(ValueError, match=r"\[68, 2\]"):
        Reference(torch.zeros(3, 8, 8), torch.zeros(5, 2), torch.zeros(5))
    with pytest.raises(GeometryError, match="finite"):
        reference(math.nan)
    with pytest.raises(ValueError, match="same number of rows"):
        References(torch.zeros(2, 3, 8, 8), torch.zeros(2, 68, 2), torch.zeros(1, 5), torch.zeros(2).long(), 1)


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_sum_and_softmax_equal_a_loop(shape: tuple[int, ...]) -> None:
    logits = values(*shape)
    sums, weights = segment_sum(logits, OWNER, 5), segment_softmax(logits, OWNER, 5)
    for image in range(5):
        rows = logits[image == OWNER]
        torch.testing.assert_close(sums[image], rows.sum(0))
        if len(rows):
            torch.testing.assert_close(weights[image == OWNER], rows.softmax(0))


def test_softmax_survives_large_logits() -> None:
    weights = segment_softmax(torch.tensor([1e4, 1e4, -1e4, -3e38, 0.0, 3e38]), OWNER, 4)
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5, 0.0, 1.0, 0.0, 1.0]))


def test_softmax_gradient() -> None:
    logits = values(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: segment_softmax(x, OWNER, 5), logits)


def test_argmin() -> None:
    assert segment_argmin(torch.tensor([3.0, 1.0, 1.0, 9.0, 4.0, 2.0]), OWNER, 5).tolist() == [1, -1, 3, 5, -1]


def test_argmin_of_what_cannot_be_compared_is_a_row_still() -> None:
    nan, inf = math.nan, math.inf
    assert segment_argmin(torch.tensor([nan, 7.0, -inf, nan, inf, inf]), OWNER, 4).tolist() == [2, -1, 3, 4]


def test_bits_do_not_depend_on_batch_mates() -> None:
    logits = values(7)
    sums, weights = segment_sum(logits, OWNER, 4), segment_softmax(logits, OWNER, 4)
    for image in (0, 2, 3):
        rows = logits[image == OWNER]
        alone = torch.zeros(len(rows), dtype=torch.int64)
        assert torch.equal(segment_sum(rows, alone, 1)[0], sums[image])
        assert torch.equal(segment_softmax(rows, alone, 1), weights[image == OWNER])
