import pytest
from typer.testing import CliRunner

from service.cli import app


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    result = CliRunner().invoke(app, ["inspect", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def row(output: str, start: str) -> str:
    (line,) = (line for line in output.splitlines() if line.startswith(start))
    return line


def test_sd21_prints_the_papers_table_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    output = run(monkeypatch, "--profile", "sd21")
    assert "865.911" in row(output, "UNet ") and "339.10" in row(output, "UNet ")
    for paper, ours in (("978.4", "978.7"), ("2,132.0", "2,132.3"), ("1,059.0", "1,059.0"), ("2,282.0", "2,281.5")):
        assert any(paper in line and ours in line and "%" in line for line in output.splitlines()), paper
    assert "products inside attention" in output and max(map(len, output.splitlines())) <= 80


def test_tiny_prints_its_components_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    output = run(monkeypatch, "--profile", "tiny", "--references", "2")
    assert "with 2 references" in output and "reference adapter" in output
    assert "Table 3a" not in output and "OSDFace" not in output


def test_unknown_profile_is_a_usage_error() -> None:
    assert CliRunner().invoke(app, ["inspect", "--profile", "sdxl"]).exit_code == 2
