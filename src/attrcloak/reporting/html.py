"""The report as one self-contained page."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from attrcloak.data.whole_file import replacing
from attrcloak.reporting import figures
from attrcloak.reporting.json_files import write_json
from attrcloak.reporting.terminal import chance_of, strongest


def render_report(report: Mapping[str, Any]) -> str:
    """HTML of a report.json: no script, no outside address, readable from a mail attachment."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("attrcloak.reporting").joinpath("templates/report.html").read_text(encoding="utf-8")
    )
    attributes = list(dict.fromkeys(r["attribute"] for r in report["audits"]["original"]["results"]))
    return template.render(
        report=report,
        details=report["details"],
        attributes=attributes,
        methods=list(report["audits"]),
        chance={name: chance_of(report, name) for name in attributes},
        strongest=strongest,
        surfaces=_surfaces(report),
        moment_equations=_moment_equations(report),
        leak_figure=figures.leak_figure(report),
        utility_figure=figures.utility_figure(report),
        projections={name: figures.projection_figure(report, name) for name in attributes},
        histograms={name: figures.histogram_figure(report, name) for name in attributes[:1]},
        trace_figure=figures.trace_figure(report),
    )


def write_report(report: Mapping[str, Any], html: Path | None = None, json: Path | None = None) -> None:
    """Write the page, the JSON file, or both; each whole or not at all."""
    if json is not None:
        write_json(report, json)
    if html is not None:
        page = render_report(report)
        html.parent.mkdir(parents=True, exist_ok=True)
        with replacing(html) as temporary:
            temporary.write_text(page, encoding="utf-8")


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
