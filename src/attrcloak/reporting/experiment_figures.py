"""The figures of an experiment's page: ours against the published numbers, curves over a setting, the frontier."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from attrcloak.experiments.frontier import Curve
from attrcloak.experiments.tables import CONTROLS, Row
from attrcloak.release import MARGIN
from attrcloak.reporting.figures import COLOURS, FAINT, INK, MARKERS, SOFT, grid, legend_below, svg, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def agreement_figure(rows: Sequence[Row]) -> str | None:
    """Each of our numbers against the published one; on the diagonal both agree. None without published shares."""
    shown = [row for row in rows if row.published is not None and row.metric != "seconds" and row.published <= 1]
    if not shown:
        return None
    figure, (axis,) = grid(1, 1, 4.4)
    axis.axline((0, 0), slope=1, color=INK, lw=0.9, ls=(0, (4, 2)))
    for position, method in enumerate(dict.fromkeys(row.method for row in shown)):
        of_method = [row for row in shown if row.method == method]
        axis.plot(
            [row.published for row in of_method],
            [row.value for row in of_method],
            MARKERS[position % len(MARKERS)],
            ms=5,
            mec="white",
            mew=0.4,
            color=COLOURS[position % len(COLOURS)],
            label=method,
        )
    axis.set_xlim(0, 1.02)
    axis.set_ylim(0, 1.02)
    axis.set_aspect("equal")
    axis.set_xlabel("published", fontsize=8, color=SOFT)
    axis.set_ylabel("ours, mean over seeds", fontsize=8, color=SOFT)
    legend_below(figure, 5, *axis.get_legend_handles_labels())
    return svg(figure, "our numbers against the published ones")


def sweep_figure(rows: Sequence[Row]) -> str | None:
    """Every metric over the setting that varies, one panel a data set and metric; None where nothing varies.

    Numbers lie on the axis in their order; what is no number, such as the MGDA rule, and the original are dotted and
    dashed lines across.
    """
    varying = [row for row in rows if row.setting and _shown(row)]
    # Several settings at once would share an axis without having anything to do with one another.
    names = {part.split("=", 1)[0] for row in varying for part in row.setting.split(", ")}
    if len(names) != 1:
        return None
    panels = list(dict.fromkeys(_panel(row) for row in varying))
    columns = min(3, len(panels))
    figure, axes = grid(-(-len(panels) // columns), columns, 1.9)
    methods = list(dict.fromkeys(row.method for row in varying))
    for axis, panel in zip(axes, panels, strict=False):
        _draw_sweep(axis, [row for row in rows if _panel(row) == panel], methods)
        dataset, attacker, attribute, metric = panel
        title(axis, " ".join(part for part in (attacker, attribute, metric.replace("_", " ")) if part))
        axis.set_xlabel(", ".join((dataset, *names)), fontsize=7)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    legend_below(figure, 4, *axes[0].get_legend_handles_labels())
    return svg(figure, "results over the setting that varies")


def _panel(row: Row) -> tuple[str, str, str, str]:
    return row.dataset, row.attacker, row.attribute, row.metric


def _draw_sweep(axis: "Axes", rows: Sequence[Row], methods: Sequence[str]) -> None:
    """The rows of one panel: a line a method, and the lines across."""
    places = list(dict.fromkeys(row.setting for row in rows if row.setting and _on_the_axis(row.setting)))
    for position, method in enumerate(methods):
        colour = COLOURS[position % len(COLOURS)]
        line = [row for row in rows if row.method == method and row.setting in places]
        x = [places.index(row.setting) for row in line]
        axis.plot(x, [row.value for row in line], "-", marker="o", ms=3.5, lw=1.2, color=colour, label=method)
        for place, row in zip(x, line, strict=True):
            if row.ci is not None:
                axis.plot([place, place], row.ci, color=colour, lw=0.8, alpha=0.6)
        for row in rows:
            if row.method == method and row.setting and row.setting not in places:
                axis.axhline(row.value, color=colour, lw=1.0, ls=":", label=f"{method}, {row.setting}")
    for row in rows:
        if row.method == "original" and not row.setting:
            axis.axhline(row.value, color=INK, lw=0.9, ls=(0, (4, 2)), label="original")
    axis.set_xticks(range(len(places)), [setting.rsplit("=", 1)[-1] for setting in places], fontsize=7)


def _shown(row: Row) -> bool:
    """Relabelled answers and moment equations stand in the tables; a figure of all of them could not be read."""
    return row.attacker not in CONTROLS and not row.metric.startswith("adaptive") and "known" not in row.attacker


def _on_the_axis(setting: str) -> bool:
    """Whether a setting such as "weight=0.2" has a place on an axis; "weight=mgda" has none."""
    return all(
        part.rsplit("=", 1)[-1].replace(".", "", 1).replace("e-", "", 1).isdigit() for part in setting.split(", ")
    )


def frontier_figure(curve: Curve) -> str:
    """Leakage of the strongest attacker against utility, every method a curve, the Pareto front ringed."""
    figure, (axis,) = grid(1, 1, 4.0)
    axis.axvspan(-0.01, MARGIN, color=FAINT, alpha=0.45, lw=0)
    axis.axhline(1.0, color=INK, lw=0.9, ls=(0, (4, 2)))
    others = [name for name in dict.fromkeys(point.method for point in curve.points) if name != "original"]
    for method in ("original", *others):
        # In the order of the plan: a curve follows its setting, wherever that leads.
        line = [point for point in curve.points if point.method == method]
        look = {"color": INK, "marker": "o", "mec": "white"} if method == "original" else _look(others.index(method))
        x, y = np.array([p.leakage for p in line]), np.array([p.utility for p in line])
        axis.plot(x, y, **{"ls": "-", "ms": 5.5, "lw": 1.1, "mew": 0.5, "label": method, **look})
        for point in line:
            if point.utility_ci is not None:
                axis.plot([point.leakage] * 2, point.utility_ci, color=look["color"], lw=0.8, alpha=0.6)
    front = [point for point in curve.points if point.best]
    axis.plot([p.leakage for p in front], [p.utility for p in front], "o", ms=10, mfc="none", mec=INK, lw=0, mew=0.9)
    axis.set_xlim(left=-0.01)
    axis.set_ylim(bottom=0)
    axis.set_xlabel("leakage of the strongest attacker, |balanced accuracy - chance|", fontsize=8, color=SOFT)
    axis.set_ylabel("NDCG@10, share of the original", fontsize=8, color=SOFT)
    title(axis, f"{curve.dataset}, {curve.backbone}")
    legend_below(figure, 5, *axis.get_legend_handles_labels())
    return svg(figure, f"leakage against utility on {curve.dataset} with {curve.backbone}")


def _look(position: int) -> dict[str, Any]:
    """Colour and marker of a method; past the last colour hollow markers and dashes, so that no two look alike."""
    colour, again = COLOURS[position % len(COLOURS)], position >= len(COLOURS)
    look: dict[str, Any] = {"color": colour, "marker": MARKERS[(position + 3 * again) % len(MARKERS)]}
    return look | ({"mfc": "white", "mec": colour, "mew": 1.0, "ls": "--"} if again else {"mec": "white"})
