import pytest
import torch

from models.errors import WeightsError
from models.face_analyzer import IdentityEncoder
from models.geometry import arcface_crop
from models.iresnet import ArcFaceIdentityEncoder, IResNet, IResNetConfig, iresnet, iresnet_config_for


def small() -> IResNet:
    torch.manual_seed(0)
    return IResNet(IResNetConfig((1, 2, 1, 1), (4, 6, 8, 8), 16))


@pytest.mark.parametrize(("depth", "millions"), [(50, 43.59), (100, 65.16)])
def test_parameters_are_those_published(depth: int, millions: float) -> None:
    with torch.device("meta"):
        network = iresnet(depth)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_key_names_are_arcface_torchs() -> None:
    keys = set(small().state_dict())
    assert {
        "conv1.weight", "bn1.running_mean", "prelu.weight", "layer1.0.bn1.weight", "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_var", "layer2.1.prelu.weight", "layer4.0.bn3.bias", "bn2.weight", "fc.weight",
        "fc.bias", "features.running_mean",
    } <= keys  # fmt: skip
    assert "layer2.1.downsample.0.weight" not in keys


def test_shapes_are_read_off_the_weights() -> None:
    assert iresnet_config_for(small().state_dict(), "small.pt") == small().config


def test_other_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"other\.pt.*layer1\.0\.bn3\.weight"):
        iresnet_config_for({"features.0.weight": torch.zeros(1)}, "other.pt")


def test_embeds_aligned_faces_with_gradients() -> None:
    encoder: IdentityEncoder = ArcFaceIdentityEncoder(small(), "small")
    assert (encoder.name, encoder.width) == ("small", 16)
    faces = (torch.rand(2, 3, 512, 512) * 2 - 1).requires_grad_()
    embeddings = encoder.embed(faces)
    assert embeddings.shape == (2, 16)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    raw = small().eval()(arcface_crop(faces))
    assert torch.allclose(embeddings, raw / raw.norm(dim=1, keepdim=True), atol=1e-6)
    embeddings[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert faces.grad is not None and faces.grad.abs().sum() > 0
