from benchmarks.engine import BASELINE, FACE, describe_machine, markdown, measure


def test_stages_are_measured_in_turns_and_compared() -> None:
    order: list[str] = []
    figures = measure({name: lambda name=name: order.append(name) for name in (BASELINE, FACE)}, runs=2)  # type: ignore[misc]
    assert order == [BASELINE, FACE] * 3, "one turn to warm up"
    assert {name: len(times) for name, times in figures.items()} == {BASELINE: 2, FACE: 2}


def test_the_table_has_ratios_and_names_the_machine() -> None:
    table = markdown({BASELINE: [0.1, 0.3, 0.2], FACE: [0.05], "rival": [1.0]}, describe_machine())
    assert "| rival | 1000 | 1000 | 5.00 | 20.00 |" in table and "torch" in table
