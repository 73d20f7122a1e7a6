"""Write the generated parts of the reference pages from the code itself; a test checks that they are current.

    python docs/build_reference.py          rewrites the pages in PAGES below

A generated part stands between the two marker lines below; what is around it is written by hand.
"""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- generated from the code: begin -->", "<!-- generated from the code: end -->"
REFERENCE = Path(__file__).resolve().parent / "reference"


def commands() -> str:
    """Every command: what it does, its arguments and its options."""
    import typer

    from attrcloak.cli import app

    group = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        context = command.make_context(name, [], resilient_parsing=True)
        pieces = " ".join(["[OPTIONS]", *(_metavar(p) for p in command.params if p.param_type_name == "argument")])
        text = re.sub(r"[\b\f]\n?", "", inspect.cleandoc(command.help or ""))
        rows = [
            _option_row(parameter, context) for parameter in command.params if not getattr(parameter, "hidden", False)
        ]
        table = ["| | default | |", "|---|---|---|", *rows] if rows else []
        parts.append(
            "\n".join([f"## {name}", "", "```text", f"attrcloak {name} {pieces}", "```", "", text, "", *table]).rstrip()
        )
    return "\n\n".join(parts)


def methods() -> str:
    """Every method, then every protection while training: what it does and its settings with their defaults."""
    from attrcloak.recommenders.protected import PROTECTED, protected_class
    from attrcloak.unlearning import METHODS

    parts = []
    for name, method in {**METHODS, **{name: protected_class(name) for name in PROTECTED}}.items():
        body = inspect.cleandoc(method.__doc__ or "").partition("\nAttributes:\n")[0]
        # A method that refines another explains its own settings only.
        meaning: dict[str, str] = {}
        for defined in reversed(method.__mro__[:-1]):
            meaning |= _meanings(inspect.cleandoc(defined.__doc__ or "").partition("\nAttributes:\n")[2])
        rows = [
            f"| `{field.name}` | `{field.default!r}` | {meaning.get(field.name, '')} |"
            for field in fields(method)
            if field.default is not MISSING
        ]
        table = ["| setting | default | meaning |", "|---|---|---|", *rows] if rows else ["No settings."]
        parts.append("\n".join([f"## {name}", "", f"`{method.__name__}`. {body.strip()}", "", *table]))
    return "\n\n".join(parts)


def reproduction() -> str:
    """Every file under docs/reproduction: tables with published numbers in brackets, frontiers, figures."""
    folder = REFERENCE.parent / "reproduction"
    parts = []
    for path in sorted(folder.glob("*/*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        parts += _frontier(content) if "curves" in content else _table(content)
        for figure in sorted(path.parent.glob(f"{path.stem}*.svg")):
            if "-sound" in figure.stem and not path.stem.endswith("-sound"):
                continue  # that of the other protocol's file
            parts.append(f"![{content['title']}]({figure.relative_to(REFERENCE.parent).as_posix()})")
    return "\n\n".join(parts)


def _table(content: dict[str, Any]) -> list[str]:
    """One part a block: methods down, attributes and metrics across."""
    from attrcloak.experiments import Row
    from attrcloak.experiments.tables import blocks
    from attrcloak.reporting.experiment import number

    rows = [Row(**{**row, "ci": row["ci"] and tuple(row["ci"])}) for row in content["rows"]]
    parts = []
    for block in blocks([row for row in rows if "% known" not in row.attacker]):
        title = f"### {content['title']}: {block.heading}, `{content['protocol']}`, {content['seeds']} seed(s)"
        head = ["| method | " + " | ".join(block.columns) + " |", "|---|" + "---|" * len(block.columns)]
        lines = [f"| {line} | " + " | ".join(map(number, cells)) + " |" for line, cells in block.lines.items()]
        parts.append("\n".join([title, "", *head, *lines]))
    return parts


def _frontier(content: dict[str, Any]) -> list[str]:
    """One part a curve: every method and setting, least leakage first."""
    parts = []
    for curve in content["curves"]:
        title = f"### {content['title']}: {curve['dataset']}, {curve['backbone']}, {content['seeds']} seed(s)"
        head = [
            "| method | setting | leakage | to | to classifiers | NDCG@10 kept | on the front | area of the method |",
            "|---|---|---|---|---|---|---|---|",
        ]
        lines = []
        for point in sorted(curve["points"], key=lambda point: float(point["leakage"])):
            kept = f"{point['utility']:.3f}"
            if point["utility_ci"]:
                kept += f" ±{(point['utility_ci'][1] - point['utility_ci'][0]) / 2:.3f}"
            front, area = "yes" if point["best"] else "", curve["area"][point["method"]]
            lines.append(
                f"| {point['method']} | {point['setting']} | {point['leakage']:.3f} | {point['strongest']} "
                f"| {point['leakage_to_classifiers']:.3f} | {kept} | {front} | {area:.3f} |"
            )
        parts.append("\n".join([title, "", *head, *lines]))
    return parts


def scale() -> str:
    """Every figure of docs/scale.json, section by section, and what they make of 10^9 and 10^10 users."""
    content = json.loads((REFERENCE.parent / "scale.json").read_text(encoding="utf-8"))
    parts = []
    for name, section in content.items():
        had = section["conditions"]
        blas = ", ".join(f"{library} with {count} threads" for library, count in had["blas threads"].items())
        rows = ["| table | what | median | smallest to largest | rounds | level | |", "|---|---|---|---|---|---|---|"]
        parts += [
            f"## {name.capitalize()}",
            section["what"],
            f"`python -m benchmarks {name}` on {had['date']}: {had['processor']}, {had['cores']} cores, load "
            f"{had['load']} when it began, Python {had['python']}, NumPy {had['numpy']}, {blas}.",
            "\n".join([*rows, *map(_figure_row, section["figures"])]),
        ]
    return "\n\n".join([*parts, "## What 10^9 and 10^10 users take", *_extrapolated(content["growth"]["figures"])])


def _figure_row(figure: dict[str, Any]) -> str:
    median, low, high = (f"{figure[which]:,.4g}" for which in ("median", "low", "high"))
    unit = {"times": " x", "slope": ""}.get(figure["unit"], f" {figure['unit']}")
    spread = "" if figure["repeats"] == 1 else f"{low} to {high}"
    cells = (figure["table"], figure["what"], median + unit, spread, figure["repeats"], figure["level"], figure["note"])
    return f"| {' | '.join(map(str, cells))} |"


def _extrapolated(growth: list[dict[str, Any]]) -> list[str]:
    """From the users a second of the largest table to hours, with the arithmetic."""
    table, rate = [(figure["table"], figure["median"]) for figure in growth if figure["unit"] == "users/s"][-1]
    rows = [
        "| users | table | computing alone, this machine | computing alone, 100 such machines | 1 GB/s of storage |",
        "|---|---|---|---|---|",
    ]
    for power in (9, 10):
        users, terabytes = 10**power, 10**power * 64 * 4 / 1e12
        hours = users / rate / 3600
        rows.append(
            f"| 10^{power} | {terabytes:.3g} TB | {hours:.2g} h | {hours * 60 / 100:.2g} min "
            f"| {3 * terabytes * 1e12 / 1e9 / 3600:.2g} h |"
        )
    mebibytes = 14 * (64 * 64 + 64 + 1) * 8 / 2**20
    return [
        f"**Extrapolated, not measured**, for 64 dimensions, float32, 14 cells. {table} went at {rate:,.3g} users/s "
        "through both passes in memory, and time grows in proportion (the slope above), so seconds are users / rate. A "
        "row has 64 x 4 bytes; both passes read it and the second writes it, 3 x users x 256 bytes in all, and where "
        "storage is slower than the passes, it decides. Decoding and writing Parquet come on top, and take several "
        "times as long as the arithmetic: [from files](#from-files) has what was measured.",
        "\n".join(rows),
        "What workers send does not grow: the moments of 14 cells are 14 x (64 x 64 + 64 + 1) x 8 bytes = "
        f"{mebibytes:.2g} MiB a part, of 294 cells {21 * mebibytes:.2g} MiB, and the eraser that goes back is as "
        "large. The solve takes as long as for a thousand users.",
    ]


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "methods.md": methods,
    "../reproduction.md": reproduction,
    "../scale.md": scale,
}


def rebuilt(page: str) -> str:
    """The text of a page with its generated part as the code is now."""
    text = (REFERENCE / page).read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{PAGES[page]()}\n\n{END}{after}"


def _option_row(parameter: Any, context: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{_metavar(parameter)}`"
    default = parameter.get_default(context)
    shown = (
        "required"
        if parameter.required
        else ""
        if default is None or default is False or default in ((), [], "")
        else f"`{default}`"
    )
    return f"| {names} | {shown} | {' '.join((getattr(parameter, 'help', None) or '').split())} |"


def _metavar(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _meanings(listed: str) -> dict[str, str]:
    """Names and texts of a docstring's Attributes section."""
    found: dict[str, str] = {}
    name = ""
    for line in listed.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2].strip()
        elif line.startswith("        ") and name:
            found[name] += " " + line.strip()
        elif line.strip():
            break
    return {name: text.replace("|", "\\|") for name, text in found.items()}


if __name__ == "__main__":
    for page in PAGES:
        (REFERENCE / page).write_text(rebuilt(page), encoding="utf-8")
