from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.visual_representation_embedder import (
    VisualRepresentationEmbedder,
    VREConfig,
    nearest_codes,
    select_tokens,
)

SMALL = VREConfig(
    image_size=16,
    channels=8,
    multipliers=(1, 2),
    residual_blocks=1,
    attention_resolutions=(8,),
    embedding_width=12,
    codebook_size=20,
    prompt_width=10,
    projection_width=6,
    tokens=9,
    groups=4,
)


def naive(embeddings: Tensor, codebook: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Token selection as the field's code words it: one item, one token at a time."""
    tokens = torch.zeros(len(embeddings), n, codebook.shape[1])
    indices = torch.full((len(embeddings), n), -1)
    for b, item in enumerate(embeddings):
        nearest = []
        for position, embedding in enumerate(item):
            squared = (embedding.double() - codebook.double()).square().sum(1).tolist()
            code = min(range(len(squared)), key=lambda i: (squared[i], i))
            nearest.append((squared[code], position, code))
        seen: list[int] = []
        for _, _, code in sorted(nearest):
            if code not in seen and len(seen) < n:
                tokens[b, len(seen)] = codebook[code]
                indices[b, len(seen)] = code
                seen.append(code)
    return tokens, indices


def assert_equals_naive(embeddings: Tensor, codebook: Tensor, n: int) -> None:
    tokens, indices = select_tokens(embeddings, codebook, n)
    naive_tokens, naive_indices = naive(embeddings, codebook, n)
    assert torch.equal(indices, naive_indices)
    assert torch.equal(tokens, naive_tokens)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("positions", "codes", "n"), [(64, 40, 20), (64, 6, 20), (5, 40, 20), (64, 40, 1)])
def test_tokens_equal_the_naive_loop(batch: int, positions: int, codes: int, n: int) -> None:
    torch.manual_seed(positions + codes + n)
    assert_equals_naive(torch.randn(batch, positions, 7), torch.randn(codes, 7), n)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 30), st.integers(1, 12), st.integers(1, 15))
@settings(max_examples=60, deadline=None)
def test_tokens_equal_the_naive_loop_with_ties(seed: int, batch: int, positions: int, codes: int, n: int) -> None:
    # Small integers: many equal distances, equal positions and even equal codes.
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randint(-2, 3, (batch, positions, 2), generator=generator).float()
    assert_equals_naive(embeddings, torch.randint(-2, 3, (codes, 2), generator=generator).float(), n)


def test_fewer_distinct_codes_leave_zero_rows() -> None:
    codebook = torch.tensor([[0.0, 1.0], [5.0, 5.0]])
    tokens, indices = select_tokens(torch.zeros(1, 4, 2), codebook, 3)
    assert indices.tolist() == [[0, -1, -1]]
    assert tokens.tolist() == [[[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]]


def test_selection_of_an_item_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    embeddings, codebook = torch.randn(8, 256, 64), torch.randn(512, 64)
    distances, codes = nearest_codes(embeddings, codebook)
    tokens, indices = select_tokens(embeddings, codebook, 77)
    for i in range(8):
        alone_distances, alone_codes = nearest_codes(embeddings[i : i + 1], codebook)
        assert torch.equal(distances[i : i + 1], alone_distances) and torch.equal(codes[i : i + 1], alone_codes)
        alone_tokens, alone_indices = select_tokens(embeddings[i : i + 1], codebook, 77)
        assert torch.equal(tokens[i : i + 1], alone_tokens) and torch.equal(indices[i : i + 1], alone_indices)


def test_selection_reads_nothing_back_from_the_device() -> None:
    # On the meta device any `.item()`, `nonzero` or boolean indexing would fail.
    tokens, indices = select_tokens(torch.empty(3, 64, 7, device="meta"), torch.empty(40, 7, device="meta"), 20)
    assert tokens.shape == (3, 20, 7) and indices.shape == (3, 20)


def test_tokens_carry_gradients_to_the_codebook() -> None:
    codebook = torch.randn(6, 4, requires_grad=True)
    tokens, indices = select_tokens(torch.randn(1, 5, 4), codebook, 8)
    tokens.sum().backward()  # type: ignore[no-untyped-call]
    assert codebook.grad is not None
    used = sorted(i for i in indices[0].tolist() if i >= 0)
    assert codebook.grad.abs().sum(1).nonzero().flatten().tolist() == used


def test_prompt_shape_and_reproducibility() -> None:
    torch.manual_seed(0)
    embedder = VisualRepresentationEmbedder(SMALL).eval()
    pictures = torch.rand(3, 3, 32, 32) * 2 - 1
    prompt = embedder(pictures)
    assert prompt.shape == (3, 9, 10)
    assert torch.equal(prompt, embedder(pictures))
    embeddings = embedder.encode(pictures)
    assert embeddings.shape == (3, 64, 12)
    codes, indices = embedder.quantise(embeddings)
    assert torch.equal(codes, embedder.codebook[indices])


def test_positions_are_in_raster_order() -> None:
    torch.manual_seed(0)
    embedder = VisualRepresentationEmbedder(SMALL).eval()
    picture = torch.rand(1, 3, 16, 16)
    expected = embedder.quant_conv(embedder.encoder(picture))
    assert torch.equal(embedder.encode(picture)[0, 8 * 2 + 3], expected[0, :, 2, 3])


@pytest.mark.parametrize("side", [8, 16, 40])
def test_pictures_of_any_size_are_resized(side: int) -> None:
    embedder = VisualRepresentationEmbedder(SMALL)
    prepared = embedder.prepare(torch.full((1, 3, side, side), 0.25))
    assert prepared.shape == (1, 3, 16, 16)
    assert torch.allclose(prepared, torch.tensor(0.25))


def test_shrinking_averages() -> None:
    checkerboard = torch.ones(1, 3, 64, 64)
    checkerboard[..., ::2, 1::2] = -1
    checkerboard[..., 1::2, ::2] = -1
    assert VisualRepresentationEmbedder(SMALL).prepare(checkerboard).abs().max() < 1e-6


def test_double_normalisation_reaches_from_minus_three_to_one() -> None:
    embedder = VisualRepresentationEmbedder(replace(SMALL, double_normalisation=True))
    prepared = embedder.prepare(torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 16, 2).repeat(1, 1, 1, 8))
    assert (prepared.min().item(), prepared.max().item()) == (-3.0, 1.0)


def test_the_papers_parameters() -> None:
    with torch.device("meta"):
        embedder = VisualRepresentationEmbedder(VREConfig.sd21())
    millions = {name: sum(p.numel() for p in module.parameters()) / 1e6 for name, module in embedder.named_children()}
    # 28.385 M in the released encoder, which has 3,072 parameters that nothing uses.
    assert millions["encoder"] == pytest.approx(28.385 - 0.003072, abs=1e-3)
    assert millions["quant_conv"] == pytest.approx(0.263, abs=1e-3)
    assert millions["quantize"] == pytest.approx(0.524, abs=1e-3)
    assert millions["projection"] == pytest.approx(0.394, abs=1e-3)
