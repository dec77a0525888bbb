from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import WeightsError
from training.components import load_component, save_component, save_components


def test_components_that_are_damaged_or_of_another_shape(tmp_path: Path) -> None:
    network = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    save_components(network, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(WeightsError, match=r"weight is \(3, 2\), not \(3, 4\)"):
        load_component(nn.Linear(4, 3), tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_component(nn.Linear(2, 3), tmp_path / "a.safetensors")


def test_a_loaded_component_does_not_depend_on_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    source, network = nn.Linear(2, 3), nn.Linear(2, 3)
    save_component(source, path)
    load_component(network, path)
    save_component(nn.Linear(2, 3), path)
    assert torch.equal(network.weight, source.weight) and network.weight.requires_grad
