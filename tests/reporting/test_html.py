"""The page: self-contained, complete, the same for the same report, and honest in its first lines."""

import copy
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from attrcloak.reporting import figures, render_report, write_report
from attrcloak.reporting.html import headline

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Balanced(HTMLParser):
    """Notes ids, links, and tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        values = dict(attrs)
        self.ids += [values["id"] or ""] if "id" in values else []
        self.targets += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(report):
    return render_report(report)


def test_the_page_is_self_contained_and_well_formed(page):
    parsed = Balanced()
    parsed.feed(page)
    assert parsed.open == []
    assert len(set(parsed.ids)) == len(parsed.ids)
    assert all(target.startswith("#") for target in parsed.targets)
    assert {target[1:] for target in parsed.targets} <= set(parsed.ids)
    assert not parsed.tags & {"script", "img", "link", "iframe"}
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_the_same_report_gives_the_same_page(report, page):
    assert render_report(copy.deepcopy(report)) == page


def test_verdict_comes_first_and_every_part_is_there(page):
    headings = re.findall(r'<h2 id="(\w+)">', page)
    assert headings == ["verdict", "leak", "utility", "seen", "course", "settings", "limits"]


def test_every_method_attribute_attacker_and_class_is_named(report, page):
    for word in (*report["audits"], "group", "town", "logistic", "qda", "moment-equation", "north", "history", "delta"):
        assert word in page


def test_what_was_left_out_is_said(page):
    assert "left out" in page
    assert "tiny" in page


def test_settings_seeds_versions_and_fingerprints_are_there_but_vectors_and_ids_are_not(report, page):
    for entry in report["unlearning"].values():
        assert entry["output_fingerprint"][:16] in page
    assert report["unlearning"]["calibrated"]["key_commitment"][:16] in page
    assert report["versions"]["numpy"] in page
    assert f"seed {report['seed']}" in page


def test_words_that_promise_too_much_are_absent(page):
    assert not re.search(r"guarantee|removes all|anonymous", page, re.IGNORECASE)


def test_text_from_data_is_escaped(report):
    strange = copy.deepcopy(report)
    strange["details"]["dataset"]["source"] = "<script>alert(1)</script>"
    for method in strange["utility"].values():
        method["per_class"]["group"] = {"<b>x": next(iter(method["per_class"]["group"].values()))}
    page = render_report(strange)
    assert "<script>" not in page
    assert "<b>x" not in page


def test_figures_are_svg_that_scales(report):
    for name in ("group", "town"):
        for svg in (
            figures.leak_figure(report, name),
            figures.projection_figure(report, name),
            figures.histogram_figure(report, name),
        ):
            root = ElementTree.fromstring(svg)
            assert root.get("viewBox")
            assert root.get("width") is None
            assert name in (root.get("aria-label") or "")


def test_many_classes_get_colours_as_far_as_they_go(report):
    crowd = copy.deepcopy(report)
    for pictures in crowd["details"]["pictures"].values():
        drawn = pictures["projection"]["group"]
        drawn["classes"] = [f"class {k}" for k in range(21)]
        drawn["codes"] = [k % 21 for k in range(len(drawn["codes"]))]
    assert "15 others" in figures.projection_figure(crowd, "group")


def test_a_report_of_closed_forms_only_has_no_course(report):
    still = copy.deepcopy(report)
    for entry in still["unlearning"].values():
        entry["trace"] = []
    assert figures.trace_figure(still) is None
    assert "logarithmic" not in render_report(still)


def test_the_headline_says_what_was_read_and_what_came_to_chance(report):
    before = headline(report, ["group", "town"])
    assert "group with a balanced accuracy of" in before[0]
    good = copy.deepcopy(report)
    good["details"]["verdicts"]["calibrated"]["protected"] = True
    assert any("at chance after: calibrated (" in text for text in headline(good, ["group", "town"]))
    bad = copy.deepcopy(report)
    for verdict in bad["details"]["verdicts"].values():
        verdict["protected"] = False
    assert any("No method here brings every attacker to chance" in text for text in headline(bad, ["group", "town"]))


def test_files_are_written_whole_into_a_folder_that_is_made(report, tmp_path):
    write_report(report, html=tmp_path / "a" / "report.html", json=tmp_path / "a" / "report.json")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["report.html", "report.json"]
