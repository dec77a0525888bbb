import subprocess
import sys
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


def test_an_error_is_a_traceback_only_for_whom_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    import honestface
    from models.errors import BundleError

    monkeypatch.setattr(sys, "argv", ["honestface", "bundle", "show", "/nowhere"])
    monkeypatch.setenv("HONESTFACE_DEBUG", "1")
    with pytest.raises(BundleError):
        honestface.main()
