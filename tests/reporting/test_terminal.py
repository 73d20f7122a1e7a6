"""Tables and the progress bar."""

import io

import pytest
from rich.console import Console

from attrcloak.reporting.terminal import audit_table, comparison_table, progress_bar


def printed(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_summary_has_a_line_for_every_method_and_its_controls(report):
    text = printed(comparison_table(report))
    for name in report["audits"]:
        assert name in text
    assert "chance 0.500" in text
    assert "of original" in text


def test_the_audit_table_has_a_line_for_every_result(compared):
    audit = compared.measured["original"].audit
    rows = [line for line in printed(audit_table(audit.results)).splitlines() if "logistic" in line]
    assert len(rows) == sum(result.attacker == "logistic" for result in audit.results)


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
