"""The figures of the report, as inline SVG. Colours stay apart for colour-blind readers (Okabe & Ito 2008)."""

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from attrcloak.release import MARGIN
from attrcloak.reporting.terminal import chance_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
MARKERS = "os^DvPX*"
INK, SOFT, FAINT, REST = "#222222", "#6B6B6B", "#D9D9D9", "#BDBDBD"
WIDTH = 7.6
"""Inches; the page scales figures to its own width, text with them."""

PAGE_FONTS = "system-ui, Helvetica, Arial, sans-serif"

SHOWN_IN_DETAIL = 3
"""Methods shown side by side in the projections and histograms: the original and the most telling others."""


def leak_figure(report: Mapping[str, Any], attribute: str) -> str:
    """Balanced accuracy of every attacker on the vectors, with intervals, chance and the margin round it.

    Where attackers were run with several shares of known labels, the largest share is shown.
    """
    methods = list(report["audits"])
    best_informed = {name: _best_informed(report["audits"][name]["results"], attribute) for name in methods}
    attackers = list(dict.fromkeys(attacker for found in best_informed.values() for attacker in found))
    figure, (axis,) = grid(1, 1, 2.7)
    chance = chance_of(report, attribute)
    axis.axhspan(chance - MARGIN, chance + MARGIN, color=FAINT, alpha=0.45, lw=0)
    axis.axhline(chance, color=INK, lw=0.9, ls=(0, (4, 2)))
    for x in range(len(methods) - 1):
        axis.axvline(x + 0.5, color=FAINT, lw=0.6)
    step = min(0.16, 0.8 / max(len(attackers), 1))
    for position, attacker in enumerate(attackers):
        shift = (position - (len(attackers) - 1) / 2) * step
        found = [
            (x + shift, best_informed[name][attacker])
            for x, name in enumerate(methods)
            if attacker in best_informed[name]
        ]
        middle = np.array([result["balanced_accuracy"] for _, result in found])
        ends = np.array([result["ci"] for _, result in found], dtype=float).reshape(-1, 2)
        spread = np.maximum(np.stack([middle - ends[:, 0], ends[:, 1] - middle]), 0)
        axis.errorbar(
            [x for x, _ in found],
            middle,
            yerr=spread,
            fmt=MARKERS[position % len(MARKERS)],
            ms=4.5,
            lw=1.2,
            mec="white",
            mew=0.4,
            color=_colour(position),
            label=attacker,
        )
    axis.text(1.005, chance, "chance", va="center", fontsize=8, color=INK, transform=axis.get_yaxis_transform())
    axis.set_xticks(range(len(methods)), methods, rotation=18, ha="right")
    axis.tick_params(axis="x", length=0)
    axis.set_xlim(-0.5, len(methods) - 0.5)
    axis.set_ylabel("balanced accuracy", fontsize=8, color=SOFT)
    title(axis, attribute)
    figure.legend(ncols=len(attackers), frameon=False, fontsize=8, loc="outside upper right", handletextpad=0.3)
    return svg(figure, f"leak of {attribute} before and after, per attacker")


def utility_figure(report: Mapping[str, Any]) -> str:
    """NDCG@10 and HR@10 of every method, with intervals."""
    methods = list(report["utility"])
    figure, axes = grid(1, 2, 0.7 + 0.24 * len(methods))
    for axis, metric in zip(axes, ("ndcg@10", "hr@10"), strict=True):
        axis.axvline(report["utility"]["original"][metric], color=INK, lw=0.9, ls=(0, (4, 2)))
        for y, method in enumerate(methods):
            entry = report["utility"][method]
            colour = INK if method == "original" else COLOURS[0]
            axis.plot(entry["ci"][metric], [y, y], color=colour, lw=1.4)
            axis.plot(entry[metric], y, "o", color=colour, ms=5, mec="white", mew=0.4)
        axis.set_yticks(range(len(methods)), methods if metric == "ndcg@10" else [""] * len(methods))
        axis.tick_params(axis="y", length=0)
        axis.invert_yaxis()
        axis.set_xlim(left=0)
        title(axis, metric.upper())
    return svg(figure, "NDCG and hit rate before and after")


def projection_figure(report: Mapping[str, Any], attribute: str) -> str:
    """Users by class on the plane that separates the classes best, before and after; each table has its own plane.

    With more classes than colours the largest are told apart and the rest is grey.
    """
    methods = telling_methods(report)
    figure, axes = grid(1, len(methods), 2.9)
    for axis, method in zip(axes, methods, strict=True):
        drawn = report["details"]["pictures"][method]["projection"][attribute]
        points, codes = np.array(drawn["points"], dtype=float).reshape(-1, 2), np.array(drawn["codes"])
        shown = _coloured(codes, len(drawn["classes"]))
        others = ~np.isin(codes, shown)
        if others.any():
            axis.plot(*points[others].T, "o", ms=2.2, color=REST, mec="none", label=f"{len(set(codes[others]))} others")
        for position, k in enumerate(shown):
            label = drawn["classes"][k]
            axis.plot(*points[codes == k].T, "o", ms=2.8, alpha=0.75, color=_colour(position), label=label, mec="none")
        title(axis, method)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[["left", "bottom"]].set_visible(False)
        axis.set_facecolor("#FAFAFA")
        axis.set_aspect("equal", "datalim")
    handles, labels = axes[0].get_legend_handles_labels()
    columns = min(len(labels), 8)
    legend_below(figure, columns, handles, labels)
    return svg(figure, f"users by {attribute}, projected, before and after")


def histogram_figure(report: Mapping[str, Any], attribute: str) -> str:
    """Single dimensions of the two largest classes with fitted Gaussians, before and after (the paper's Fig. 4)."""
    pictures = report["details"]["pictures"]
    return shapes_figure({name: pictures[name]["histograms"][attribute] for name in telling_methods(report)}, attribute)


def shapes_figure(shapes: Mapping[str, Sequence[Mapping[str, Any]]], attribute: str) -> str:
    """One line of single dimensions a method; see ``pictures.histograms`` for what is drawn."""
    methods = list(shapes)
    columns = max(1, *(len(found) for found in shapes.values()))
    figure, axes = grid(len(methods), columns, 1.35)
    for axis in axes:
        axis.set_visible(False)
    for row, method in enumerate(methods):
        for column, shape in enumerate(shapes[method]):
            axis = axes[row * columns + column]
            axis.set_visible(True)
            edges = np.array(shape["edges"])
            centres, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
            for k, (name, density) in enumerate(shape["density"].items()):
                axis.fill_between(centres, np.array(density), step="mid", alpha=0.3, color=_colour(k), lw=0, label=name)
                spread = max(shape["std"][name], 1e-9)
                curve = np.exp(-(((centres - shape["mean"][name]) / spread) ** 2) / 2) / spread / np.sqrt(2 * np.pi)
                axis.plot(centres, curve * width, color=_colour(k), lw=1.2)
            axis.set_title(f"dimension {shape['dimension']}", fontsize=7, pad=2, color=SOFT)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines["left"].set_visible(False)
            if column == 0:
                axis.set_ylabel(method, fontsize=8.5, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    legend_below(figure, 2, handles, labels)
    return svg(figure, f"single dimensions by {attribute}, before and after")


def trace_figure(report: Mapping[str, Any]) -> str | None:
    """Objective and MGDA weight over the steps; None when no method iterates."""
    traces = {name: entry["trace"] for name, entry in report["unlearning"].items() if len(entry.get("trace", ())) > 1}
    if not traces:
        return None
    figure, axes = grid(1, 2, 2.6)
    for position, (name, trace) in enumerate(traces.items()):
        share = np.linspace(0, 1, len(trace))
        leakage = [max(step["leakage"], 1e-6) for step in trace]
        axes[0].plot(share, leakage, lw=1.5, color=_colour(position), label=f"{name} ({len(trace)} steps)")
        axes[1].plot(share, [step["weight"] for step in trace], lw=1.5, color=_colour(position))
    axes[0].set_yscale("log")
    title(axes[0], "objective, nats (logarithmic)")
    title(axes[1], "weight of the leakage gradient")
    axes[1].set_ylim(-0.02, 1.05)
    for axis in axes:
        axis.set_xlabel("share of the steps taken", fontsize=8, color=SOFT)
        axis.tick_params(which="both", labelsize=8, color=FAINT)
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter("")
    legend_below(figure, 3, *axes[0].get_legend_handles_labels())
    return svg(figure, "objective and weight over the steps")


def telling_methods(report: Mapping[str, Any]) -> list[str]:
    """The original and up to two others, ours and the paper's first."""
    order = ("original", "calibrated", "attrcloak-df", "attrcloak-dd", *report["audits"])
    return [name for name in dict.fromkeys(order) if name in report["audits"]][:SHOWN_IN_DETAIL]


def _best_informed(results: Sequence[Mapping[str, Any]], attribute: str) -> dict[str, Mapping[str, Any]]:
    """The result on the vectors of each attacker, with the largest share of known labels."""
    found: dict[str, Mapping[str, Any]] = {}
    for result in results:
        if (result["attribute"], result["surface"]) != (attribute, "vectors"):
            continue
        if result["attacker"] not in found or result["known"] > found[result["attacker"]]["known"]:
            found[result["attacker"]] = result
    return found


def _coloured(codes: NDArray[np.integer], classes: int) -> list[int]:
    """The classes that get a colour of their own, in order: all, or the largest where there are too many."""
    if classes <= len(COLOURS):
        return list(range(classes))
    counts = np.bincount(codes, minlength=classes)
    return sorted(np.argsort(-counts, kind="stable")[: len(COLOURS) - 2].tolist())


def _colour(position: int) -> str:
    return COLOURS[position % len(COLOURS)]


def legend_below(figure: "Figure", columns: int, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """One legend for all panels, outside them."""
    place: dict[str, Any] = {"loc": "outside lower center", "markerscale": 1.5, "handletextpad": 0.3}
    figure.legend(handles, labels, ncols=columns, frameon=False, fontsize=8, **place)


def title(axis: Any, text: str) -> None:
    """A panel's heading, flush left."""
    axis.set_title(text, loc="left", fontsize=9.5, fontweight="bold", color=INK)


def grid(rows: int, columns: int, height: float) -> "tuple[Figure, NDArray[Any]]":
    """A figure of equal panels as wide as the page, ``height`` inches each, and its axes in one row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).reshape(-1)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(FAINT)
        axis.tick_params(labelsize=8, color=FAINT, labelcolor=INK)
    return figure, axes


def svg(figure: "Figure", description: str) -> str:
    """The figure as an SVG element, the same for the same numbers, text kept as text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "attrcloak", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    box = re.search(r'viewBox="[^"]+"', text)
    assert box is not None  # matplotlib always writes one
    head = f'<svg {spaces} {box[0]} role="img" aria-label="{escape(description, quote=True)}">'
    text = re.sub(r"<svg [^>]*>", lambda _: head, text, count=1)
    text = re.sub(r"(font(?:-family)?: [^;\"]*?)'?DejaVu Sans'?[^;\"]*", rf"\1{PAGE_FONTS}", text)
    # Ids repeat from figure to figure; inside one page each needs its own.
    own = f"f{zlib.crc32(text.encode()):08x}-"
    text = re.sub(r'id="([^"]+)"', rf'id="{own}\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{own}\1"', text)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{own}\1)", text)
