import importlib
import pkgutil

import pytest

import benchmarks

NAMES = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]


@pytest.mark.parametrize("name", NAMES)
def test_it_imports(name: str) -> None:
    if name == "litserve_server":
        pytest.importorskip("litserve", reason="needs the extra `bench`: make bench")
    importlib.import_module(f"benchmarks.{name}")
