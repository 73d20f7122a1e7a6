"""The files an experiment leaves: JSON, CSV, LaTeX and pages, by the same numbers."""

import csv
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

from attrcloak.experiments import frontier, rows_of
from attrcloak.experiments.tables import Row
from attrcloak.reporting import experiment_figures
from attrcloak.reporting.experiment import (
    frontier_table,
    number,
    replaced,
    terminal_tables,
    write_frontier,
    write_tables,
)

BOTH = ("paper", "sound")


def test_all_files_hold_the_same_rows(plan, measured, tmp_path):
    rows = {protocol: rows_of(plan, measured, protocol) for protocol in BOTH}
    names = [path.name for path in write_tables(plan, "table4", measured, rows, tmp_path, {})]
    assert names == [
        "table4.json",
        "table4-sound.json",
        "table4.csv",
        "table4.tex",
        "table4.html",
        "table4-sweep-paper.svg",
        "table4-sweep-sound.svg",
        "table4-shapes-group.svg",
    ]
    for name in names[5:]:
        assert ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg")
    content = json.loads((tmp_path / "table4.json").read_text())
    assert content["protocol"] == "paper"
    assert len(content["rows"]) == len(rows["paper"])
    with (tmp_path / "table4.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [r.value for p in BOTH for r in rows[p]]
    assert {line["protocol"] for line in lines} == set(BOTH)


def test_the_page_stands_alone_and_shows_every_block(plan, dataset, measured, tmp_path):
    rows = {protocol: rows_of(plan, measured, protocol) for protocol in BOTH}
    write_tables(plan, "t", measured, rows, tmp_path, {"planted": dataset.describe()})
    page = (tmp_path / "t.html").read_text()
    assert not re.search(r"<script|src=|href=\"http", page)
    assert page.count("<svg") == 3  # a sweep for each protocol, and the single dimensions of one attribute
    assert "planted, als, logistic" in page
    assert "240 users, 60 items" in page
    assert "als (sound)" in page
    assert number(rows["paper"][0]) in page
    latex = (tmp_path / "t.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == len(terminal_tables(rows))
    assert not re.search(r"(?<!\\)_", re.sub(r"%.*", "", latex))


def test_the_frontier_page_names_every_method(plan, measured, tmp_path):
    curves = frontier(measured)
    files = write_frontier(plan, "t", curves, tmp_path, measured, {})
    assert [path.name for path in files] == ["t-frontier.json", "t-frontier.html", "t-frontier-planted-als.svg"]
    assert files[2].read_text() in files[1].read_text()
    content = json.loads(files[0].read_text())
    assert content["versions"]
    assert content["data"]["planted"]["fingerprint"] == measured[0].cell.data
    assert [p["method"] for p in content["curves"][0]["points"]] == [p.method for p in curves[0].points]
    page = files[1].read_text()
    assert all(name in page for name in ("original", "leace", "noise", "blurme", "scale=2.0"))
    assert frontier_table(curves[0]).row_count == 5


def test_what_an_earlier_run_had_and_this_one_has_not_is_said(plan, measured, tmp_path):
    both = {protocol: rows_of(plan, measured, protocol) for protocol in BOTH}
    assert replaced(both, "t", tmp_path) == []
    write_tables(plan, "t", measured, both, tmp_path, {})
    assert replaced(both, "t", tmp_path) == []
    fewer = {"paper": [row for row in both["paper"] if row.method != "leace"]}
    first, second = replaced(fewer, "t", tmp_path)
    assert "t.json is replaced: it had leace planted als, with more seeds or not" in first
    assert "t-sound.json is of an earlier run" in second
    (once,) = replaced({**both, "paper": [replace(row, seeds=1) for row in both["paper"]]}, "t", tmp_path)
    assert "noise scale=0.5 planted als" in once


def test_a_number_carries_its_interval_and_the_published_one():
    row = Row(
        dataset="d", backbone="b", method="m", setting="", attacker="", attribute="", metric="ndcg@10", value=0.5,
        ci=(0.4, 0.6), seeds=3, published=0.7,
    )  # fmt: skip
    assert number(row) == "0.500 ±0.100 (0.700)"
    assert number(None) == "–"


def test_no_two_methods_of_the_frontier_look_alike():
    looks = [tuple(sorted(experiment_figures._look(position).items())) for position in range(16)]
    assert len(set(looks)) == 16
