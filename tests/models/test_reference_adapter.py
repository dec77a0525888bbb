import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.reference_adapter import ReferenceAdapter, ReferenceAdapterConfig

CONFIG = ReferenceAdapterConfig(latent_channels=4, widths=(8, 12, 16))
PRESENT = torch.tensor([True, False])


def latents(seed: int) -> Tensor:
    return torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def adapter() -> ReferenceAdapter:
    """With weights where it starts at zero."""
    torch.manual_seed(0)
    network = ReferenceAdapter(CONFIG).requires_grad_(False)
    for layer in network.leave:
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
    return network


def residuals(
    network: ReferenceAdapter, reference: Tensor, agreement: float, present: Tensor = PRESENT
) -> list[Tensor]:
    skips, middle = network(latents(0), reference, torch.full((2,), agreement), present)
    return [*skips, middle]


def test_it_starts_as_nothing() -> None:
    assert not any(residual.any() for residual in residuals(ReferenceAdapter(CONFIG), latents(1), 1.0))


def test_one_residual_for_each_skip_and_the_middle(adapter: ReferenceAdapter) -> None:
    shapes = [tuple(residual.shape) for residual in residuals(adapter, latents(1), 1.0)]
    assert shapes == [(2, 8, 16, 16), (2, 12, 8, 8), (2, 16, 4, 4)]


def test_it_looks_at_both_latents_and_what_lies_between_them(adapter: ReferenceAdapter) -> None:
    seen: list[Tensor] = []
    hook = adapter.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    residuals(adapter, latents(1), 1.0)
    hook.remove()
    all_three = torch.cat([latents(0), latents(1), latents(1) - latents(0)], dim=1)
    assert torch.allclose(seen[0], F.silu(adapter.enter(all_three)), atol=1e-5)


def test_exactly_zero_without_a_reference_even_if_its_place_holds_no_numbers(adapter: ReferenceAdapter) -> None:
    reference = latents(1)
    reference[1] = torch.nan
    for residual in residuals(adapter, reference, 1.0):
        assert residual[0].any() and not residual[1].any()


def test_the_gate_opens_with_the_agreement_of_the_identities(adapter: ReferenceAdapter) -> None:
    both = torch.tensor([True, True])
    sizes = [float(residuals(adapter, latents(1), cosine, both)[-1].norm()) for cosine in (-0.5, 0.25, 0.9)]
    assert sizes[0] < 0.02 * sizes[2] and sizes[0] < sizes[1] < sizes[2]
