"""Tables and the progress bar."""

import io

import pytest
from rich.console import Console

from attrcloak.reporting.terminal import (
    LINE_EVERY,
    ProgressLines,
    audit_table,
    comparison_table,
    progress_bar,
    strongest,
)


def printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_summary_has_a_line_for_every_method_and_its_controls(report):
    text = printed(comparison_table(report))
    for name in report["audits"]:
        assert name in text
    assert "0.500" in text
    assert "kept" in text


def test_the_audit_table_has_a_line_for_every_result(compared):
    audit = compared.measured["original"].audit
    rows = [line for line in printed(audit_table(audit.results)).splitlines() if "logistic" in line]
    assert len(rows) == sum(result.attacker == "logistic" for result in audit.results)


def test_eighty_columns_are_enough_to_read_the_names(report):
    console = Console(file=io.StringIO(), width=80)
    console.print(comparison_table(report))
    assert all(name in console.file.getvalue() for name in report["audits"])  # type: ignore[attr-defined]


def test_the_strongest_attacker_is_counted_as_the_verdict_counts():
    below = {"attribute": "group", "surface": "vectors", "chance": 0.5, "attacker": "moment-equation"}
    results = [{**below, "balanced_accuracy": 0.3}, {**below, "attacker": "mlp", "balanced_accuracy": 0.44}]
    assert strongest(results, "group") == results[1]
    results[0]["balanced_accuracy"] = 0.7
    assert strongest(results, "group") == results[0]


def test_progress_goes_to_standard_error_and_quiet_means_none(capsys):
    with progress_bar() as report:
        report("training", 0, 2)
        report("training", 2, 2)
        report("empty", 0, 0)
    written = capsys.readouterr()
    assert written.out == ""
    with progress_bar(quiet=True) as nothing:
        assert nothing is None
    assert capsys.readouterr().err == ""


def test_the_bar_is_put_away_when_something_goes_wrong():
    def fails() -> None:
        with progress_bar() as report:
            report("training", 1, 2)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fails()


def test_a_log_gets_a_line_now_and_then_with_all_that_is_under_way():
    now = [0.0]
    lines: list[str] = []
    say = ProgressLines(lines.append, lambda: now[0])
    say("table on small", 4, 10)  # four of them were kept from an earlier run
    say("rap on ncf, seed 0", 0, 1)
    for epoch in range(1, 5):
        now[0] += LINE_EVERY / 2
        say("training ncf", epoch, 8)
    assert [line[9:] for line in lines] == [
        "table on small 4/10; rap on ncf, seed 0; training ncf 2/8, 30 s left",
        "table on small 4/10; rap on ncf, seed 0; training ncf 4/8, 20 s left",
    ]
    say("training ncf", 8, 8)
    say("rap on ncf, seed 0", 1, 1)
    now[0] += 700
    say("table on small", 5, 10)
    assert lines[-1][9:] == "table on small 5/10, 60 min left"
    assert len(lines) == 3
    now[0] += LINE_EVERY / 2
    say("table on small", 10, 10)
    assert lines[-1][9:] == "table on small 10/10, in 12 min"
    assert len(lines) == 4


def test_a_log_tells_the_rate_of_what_is_counted_in_rows():
    now = [0.0]
    lines: list[str] = []
    say = ProgressLines(lines.append, lambda: now[0])
    say("moving", 0, 10_000_000)
    now[0] += 20
    say("moving", 4_000_000, 10_000_000)
    assert lines[0][9:] == "moving 4,000,000/10,000,000, 30 s left (200,000 a second)"


def test_a_stage_that_never_ended_is_over_when_one_around_it_goes_on():
    now = [0.0]
    lines: list[str] = []
    say = ProgressLines(lines.append, lambda: now[0])
    say("outer", 0, 3)
    say("inner", 4, 9)
    say("outer", 1, 3)
    now[0] += LINE_EVERY
    say("next", 1, 2)
    assert lines[0][9:] == "outer 1/3, 20 s left; next 1/2"


def test_a_short_run_says_nothing_in_a_log():
    lines: list[str] = []
    say = ProgressLines(lines.append, lambda: 1.0)
    for done in range(5):
        say("training", done, 4)
    assert lines == []


def test_a_terminal_gets_bars_and_a_log_lines(monkeypatch, capsys):
    monkeypatch.setattr("attrcloak.reporting.terminal.LINE_EVERY", 0.0)
    with progress_bar() as report:
        report("training", 1, 2)
    assert "training 1/2" in capsys.readouterr().err
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar() as report:
        assert not isinstance(report, ProgressLines)
