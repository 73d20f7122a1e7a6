"""The report as one self-contained page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrcloak.json_text import write_json
from attrcloak.reporting import figures
from attrcloak.reporting.terminal import chance_of, distance, strongest
from attrcloak.whole_file import replacing

if TYPE_CHECKING:
    from jinja2 import Template


def render_report(report: Mapping[str, Any]) -> str:
    """HTML of a report.json: no script, no outside address, readable from a mail attachment."""
    attributes = list(dict.fromkeys(r["attribute"] for r in report["audits"]["original"]["results"]))
    return template("report.html").render(
        report=report,
        details=report["details"],
        attributes=attributes,
        methods=list(report["audits"]),
        chance={name: chance_of(report, name) for name in attributes},
        strongest=strongest,
        surfaces=_surfaces(report),
        moment_equations=_moment_equations(report),
        headline=headline(report, attributes),
        notes=list(dict.fromkeys(note for audit in report["audits"].values() for note in audit.get("notes", ()))),
        leaks={name: figures.leak_figure(report, name) for name in attributes},
        utility_figure=figures.utility_figure(report),
        projections={name: figures.projection_figure(report, name) for name in attributes},
        histograms={name: figures.histogram_figure(report, name) for name in attributes},
        trace_figure=figures.trace_figure(report),
    )


def template(name: str) -> "Template":
    """One of the page templates; values are escaped, and a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("attrcloak.reporting", "templates")
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return pages.get_template(name)


def write_report(report: Mapping[str, Any], html: Path | None = None, json: Path | None = None) -> None:
    """Write the page, the JSON file, or both; each whole or not at all."""
    if json is not None:
        write_json(report, json)
    if html is not None:
        page = render_report(report)
        html.parent.mkdir(parents=True, exist_ok=True)
        with replacing(html) as temporary:
            temporary.write_text(page, encoding="utf-8")


def headline(report: Mapping[str, Any], attributes: Sequence[str]) -> list[str]:
    """What the report comes to, in three sentences: the leak before, what came to chance, and at what price."""
    read, unread = [], []
    for name in attributes:
        worst = strongest(report["audits"]["original"]["results"], name)
        if worst is None:
            continue
        if worst["ci"][0] <= worst["chance"] <= worst["ci"][1]:
            unread.append(name)
        else:
            read.append(
                f"{name} with a balanced accuracy of {worst['balanced_accuracy']:.2f} where a guesser has "
                f"{worst['chance']:.2f} ({worst['attacker']})"
            )
    sentences = ["As trained, attackers read " + "; ".join(read) + "."] if read else []
    if unread:
        sentences.append(f"No attacker here demonstrably reads {', '.join(unread)} from the original vectors.")
    verdicts, ratios = report["details"]["verdicts"], report["details"]["paired_ratio"]
    others = [name for name in report["audits"] if name != "original"]
    at_chance = [name for name in others if verdicts[name]["protected"]]
    if at_chance:
        kept = ", ".join(f"{name} ({100 * ratios[name][0]:.0f} % of the original's NDCG@10)" for name in at_chance)
        sentences.append(f"Every attacker here is at chance after: {kept}.")
    elif others:
        furthest = {
            name: max(
                (distance(r) for r in report["audits"][name]["results"] if r["surface"] == "vectors"), default=1.0
            )
            for name in others
        }
        closest = min(others, key=lambda name: furthest[name])
        sentences.append(
            f"No method here brings every attacker to chance. Closest is {closest}: its strongest attacker is "
            f"{100 * furthest[closest]:.0f} points away from chance, and {100 * ratios[closest][0]:.0f} % of the "
            "original's NDCG@10 is kept."
        )
    return sentences


def _surfaces(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each surface other than the vectors, the strongest attacker on every attribute of every method."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for method, audit in report["audits"].items():
        for result in audit["results"]:
            if result["surface"] == "vectors":
                continue
            row = rows.setdefault(
                (method, result["surface"]), {"method": method, "surface": result["surface"], "best": {}}
            )
            best = row["best"].get(result["attribute"])
            if best is None or result["leakage"] > best["leakage"]:
                row["best"][result["attribute"]] = result
    return list(rows.values())


def _moment_equations(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What solving the moment equations gives, one row a method and share of known labels."""
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    for method, audit in report["audits"].items():
        for result in audit["results"]:
            if result["attacker"] == "moment-equation":
                row = rows.setdefault((method, result["known"]), {"method": method, "known": result["known"], "by": {}})
                row["by"][result["attribute"]] = result
    return list(rows.values())
