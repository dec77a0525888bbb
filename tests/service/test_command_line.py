import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, honestface\n"
        "sys.argv = ['honestface', '--help']\n"
        "try:\n    honestface.main()\n"
        "finally:\n    print(sorted({m.split('.')[0] for m in sys.modules}), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    for command in ("restore", "demo", "serve", "inspect", "bundle", "train"):
        assert f" {command} " in ended.stdout
    for heavy in ("torch", "numpy", "PIL", "fastapi", "uvicorn", "pydantic_settings", "diffusers"):
        assert f"'{heavy}'" not in ended.stderr, f"the help imports {heavy}"


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import honestface

    monkeypatch.setattr(sys, "argv", ["honestface", "--version"])
    with pytest.raises(SystemExit, match="0"):
        honestface.main()
    assert capsys.readouterr().out == f"honestface {version('honestface')}\n"


def test_an_error_is_a_traceback_only_for_whom_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    import honestface
    from models.errors import BundleError

    monkeypatch.setattr(sys, "argv", ["honestface", "bundle", "show", "/nowhere"])
    monkeypatch.setenv("HONESTFACE_DEBUG", "1")
    with pytest.raises(BundleError):
        honestface.main()


def test_a_missing_package_is_one_line_that_says_which_extra_brings_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import honestface

    monkeypatch.setitem(sys.modules, "yaml", None)
    monkeypatch.delitem(sys.modules, "training.run", raising=False)
    (tmp_path / "vae.yaml").write_text("{}")
    monkeypatch.setattr(sys, "argv", ["honestface", "train", "vae", "--config", str(tmp_path / "vae.yaml")])
    with pytest.raises(SystemExit, match="1"):
        honestface.main()
    assert capsys.readouterr().err == "honestface: yaml is needed: pip install 'honestface[train]'\n"


@pytest.mark.parametrize("command", ["restore", "demo"])
def test_a_file_that_cannot_be_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import honestface

    (tmp_path / "file").write_text("")
    arguments = {"restore": ["a" * 300, "-o", "out.png"], "demo": ["--out", str(tmp_path / "file" / "out")]}[command]
    monkeypatch.setattr(sys, "argv", ["honestface", command, *arguments])
    with pytest.raises(SystemExit, match="1"):
        honestface.main()
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "restore", "bundle import-osdface"])
def test_the_help_names_the_defaults(command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "honestface", *command.split(), "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert "embedded tiny bundle)]" in ended.stdout
