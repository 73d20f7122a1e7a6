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
    """Every method: what it does and its settings with their defaults."""
    from attrcloak.unlearning import METHODS

    parts = []
    for name, method in METHODS.items():
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


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "methods.md": methods,
    "../reproduction.md": reproduction,
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
