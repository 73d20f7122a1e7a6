"""The figures of the report, as inline SVG. Colours stay apart for colour-blind readers (Okabe & Ito 2008)."""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attrcloak.reporting.terminal import chance_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
INK, FAINT = "#222222", "#C8C8C8"
SHOWN_IN_DETAIL = 3
"""Methods shown side by side in the projections and histograms: the original and the most telling others."""


def leak_figure(report: Mapping[str, Any]) -> str:
    """Balanced accuracy of every attacker on the vectors of every method, with intervals and chance lines."""
    attributes = list(dict.fromkeys(r["attribute"] for r in report["audits"]["original"]["results"]))
    methods = list(report["audits"])
    on_vectors = [r for r in report["audits"]["original"]["results"] if r["surface"] == "vectors"]
    attackers = list(dict.fromkeys(r["attacker"] for r in on_vectors if r["attacker"] != "moment-equation"))
    figure, axes = _grid(len(attributes), 1, width=7.6, height=2.3)
    for axis, attribute in zip(axes, attributes, strict=True):
        for position, attacker in enumerate(attackers):
            offset = (position - (len(attackers) - 1) / 2) * 0.16
            found = [
                (x + offset, r)
                for x, method in enumerate(methods)
                for r in report["audits"][method]["results"]
                if (r["attribute"], r["attacker"], r["surface"]) == (attribute, attacker, "vectors")
            ]
            middle = np.array([r["balanced_accuracy"] for _, r in found])
            ends = np.array([r["ci"] for _, r in found]).reshape(-1, 2)
            spread = np.maximum(np.abs(ends - middle[:, None]).T, 0)
            axis.errorbar(
                [x for x, _ in found],
                middle,
                yerr=spread,
                fmt="o",
                ms=4,
                lw=1.2,
                color=_colour(position),
                label=attacker,
            )
        chance = chance_of(report, attribute)
        axis.axhline(chance, color=INK, lw=0.9, ls="--")
        axis.text(len(methods) - 0.45, chance, " chance", va="center", fontsize=8, color=INK)
        axis.set_xticks(range(len(methods)), methods, rotation=18, ha="right")
        axis.set_xlim(-0.6, len(methods) - 0.4)
        axis.set_ylabel("balanced accuracy")
        axis.set_title(attribute, loc="left", fontweight="bold")
    axes[0].legend(ncols=len(attackers), frameon=False, fontsize=8, loc="upper right")
    return _svg(figure)


def utility_figure(report: Mapping[str, Any]) -> str:
    """NDCG@10 and HR@10 of every method, with intervals."""
    methods = list(report["utility"])
    figure, axes = _grid(1, 2, width=7.6, height=2.6)
    for axis, metric in zip(axes, ("ndcg@10", "hr@10"), strict=True):
        for y, method in enumerate(methods):
            entry = report["utility"][method]
            low, high = entry["ci"][metric]
            axis.plot([low, high], [y, y], color=_colour(0), lw=1.4)
            axis.plot(entry[metric], y, "o", color=_colour(0), ms=5)
        axis.axvline(report["utility"]["original"][metric], color=INK, lw=0.9, ls="--")
        axis.set_yticks(range(len(methods)), methods if metric == "ndcg@10" else [""] * len(methods))
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        axis.set_title(metric.upper(), loc="left", fontweight="bold")
    return _svg(figure)


def projection_figure(report: Mapping[str, Any], attribute: str) -> str:
    """Users by class on the plane that separates the classes best, before and after; each table has its own plane."""
    methods = telling_methods(report)
    figure, axes = _grid(1, len(methods), width=7.6, height=2.9)
    for axis, method in zip(axes, methods, strict=True):
        drawn = report["details"]["pictures"][method]["projection"][attribute]
        points, codes = np.array(drawn["points"]), np.array(drawn["codes"])
        for k, name in enumerate(drawn["classes"]):
            inside = codes == k
            axis.plot(*points[inside].T, "o", ms=2.6, alpha=0.7, color=_colour(k), label=name, mec="none")
        axis.set_title(method, loc="left", fontweight="bold")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_aspect("equal", "datalim")
    if len(drawn["classes"]) <= len(COLOURS):
        axes[-1].legend(frameon=False, fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def histogram_figure(report: Mapping[str, Any], attribute: str) -> str:
    """Single dimensions of the two largest classes with fitted Gaussians, before and after (Fig. 4 of the paper)."""
    methods = telling_methods(report)
    shapes = {m: report["details"]["pictures"][m]["histograms"][attribute] for m in methods}
    columns = max(len(s) for s in shapes.values())
    figure, axes = _grid(len(methods), columns, width=7.6, height=1.5)
    for row, method in enumerate(methods):
        for column, shape in enumerate(shapes[method]):
            axis = axes[row * columns + column]
            edges = np.array(shape["edges"])
            centres, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
            for k, (name, density) in enumerate(shape["density"].items()):
                axis.fill_between(
                    centres, np.array(density), step="mid", alpha=0.35, color=_colour(k), lw=0, label=name
                )
                spread = max(shape["std"][name], 1e-9)
                curve = np.exp(-(((centres - shape["mean"][name]) / spread) ** 2) / 2) / spread / np.sqrt(2 * np.pi)
                axis.plot(centres, curve * width, color=_colour(k), lw=1.1)
            axis.set_title(f"dimension {shape['dimension']}", fontsize=7, pad=2)
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0:
                axis.set_ylabel(method, fontsize=8)
    axes[0].legend(frameon=False, fontsize=7)
    return _svg(figure)


def trace_figure(report: Mapping[str, Any]) -> str | None:
    """Objective and MGDA weight over the steps; None when no method iterates."""
    traces = {name: entry["trace"] for name, entry in report["unlearning"].items() if len(entry.get("trace", ())) > 1}
    if not traces:
        return None
    figure, axes = _grid(1, 2, width=7.6, height=2.5)
    for position, (name, trace) in enumerate(traces.items()):
        share = np.linspace(0, 1, len(trace))
        axes[0].plot(share, [max(step["leakage"], 1e-6) for step in trace], lw=1.4, color=_colour(position), label=name)
        axes[1].plot(share, [step["weight"] for step in trace], lw=1.4, color=_colour(position))
    axes[0].set_yscale("log")
    axes[0].set_title("objective L^AU, nats", loc="left", fontweight="bold")
    axes[1].set_title("weight of the leakage gradient", loc="left", fontweight="bold")
    axes[1].set_ylim(-0.02, 1.05)
    for axis in axes:
        axis.set_xlabel("share of the steps taken")
    axes[0].legend(frameon=False, fontsize=8)
    return _svg(figure)


def telling_methods(report: Mapping[str, Any]) -> list[str]:
    """The original and up to two others, ours and the paper's first."""
    order = ("original", "calibrated", "attrcloak-df", "attrcloak-dd", *report["audits"])
    return [name for name in dict.fromkeys(order) if name in report["audits"]][:SHOWN_IN_DETAIL]


def _colour(position: int) -> str:
    return COLOURS[position % len(COLOURS)]


def _grid(rows: int, columns: int, width: float, height: float) -> "tuple[Figure, Sequence[Any]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(labelsize=8, color=FAINT)
        axis.xaxis.label.set_fontsize(8)
        axis.yaxis.label.set_fontsize(8)
        axis.title.set_fontsize(9)
    return figure, list(axes)


def _svg(figure: "Figure") -> str:
    """The figure as an SVG element, the same for the same numbers, text kept as text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "attrcloak", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # Ids repeat from figure to figure; inside one page each needs its own.
    own = f"f{zlib.crc32(text.encode()):08x}-"
    text = re.sub(r'id="([^"]+)"', rf'id="{own}\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{own}\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{own}\1)", text)
