import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.errors import WeightsError
from models.foreign_weights import read_weights

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


def assert_is_state(state: dict[str, Tensor]) -> None:
    assert list(state) == list(STATE)
    assert all(torch.equal(state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("name", ["w.pth", "w.ckpt", "w.pth.tar"])
def test_reads_torch_files(tmp_path: Path, name: str) -> None:
    torch.save(STATE, tmp_path / name)
    assert_is_state(read_weights(tmp_path / name))


def test_reads_the_state_of_a_checkpoint(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": STATE}, tmp_path / "w.ckpt")
    assert_is_state(read_weights(tmp_path / "w.ckpt"))


def test_reads_files_in_the_old_format(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert_is_state(read_weights(tmp_path / "w.pth"))


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    state = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(state["a.weight"], STATE["a.weight"])


def test_a_frameworks_objects_do_not_hide_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As pytorch-lightning 1.x writes them: callbacks keyed by their class, settings as objects of a library.
    framework = ModuleType("some_framework")

    class Callback:
        def __init__(self) -> None:
            self.best = 1.0

    Callback.__module__, Callback.__qualname__ = "some_framework", "Callback"
    framework.Callback = Callback  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_framework", framework)
    torch.save({"callbacks": {Callback: {"best": 1}}, "settings": Callback(), "state_dict": STATE}, tmp_path / "w.ckpt")
    monkeypatch.delitem(sys.modules, "some_framework")
    assert_is_state(read_weights(tmp_path / "w.ckpt"))


class Mischief:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("new_format", [True, False])
def test_nothing_in_a_file_is_run(tmp_path: Path, new_format: bool) -> None:
    mark = tmp_path / "was-here"
    path = tmp_path / "w.ckpt"
    mischief = Mischief(shutil.copyfile, __file__, str(mark))
    torch.save({"state_dict": STATE, "x": mischief}, path, _use_new_zipfile_serialization=new_format)
    if new_format:
        assert_is_state(read_weights(path))
    else:
        with pytest.raises(WeightsError, match=r"w\.ckpt cannot be read"):
            read_weights(path)
    assert not mark.exists()


def test_system_calls_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "x": Mischief(os.mkdir, str(tmp_path / "was-here"))}, tmp_path / "w.ckpt")
    with pytest.raises(WeightsError, match=r"w\.ckpt cannot be read"):
        read_weights(tmp_path / "w.ckpt")
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 broken zip"])
@pytest.mark.parametrize("name", ["w.ckpt", "w.safetensors"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        read_weights(path)


def test_truncated_and_missing_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.ckpt"
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match=r"w\.ckpt"):
        read_weights(path)
    with pytest.raises(WeightsError, match="no such file"):
        read_weights(tmp_path / "none.ckpt")


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, {"state_dict": {}}, torch.zeros(3)])
def test_files_without_weights_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_weights(tmp_path / "w.pth")
