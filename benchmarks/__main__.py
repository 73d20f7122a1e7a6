"""Measure what the two passes cost, and write the figures that docs/scale.md shows.

    python -m benchmarks                      all sections, an hour or so on two cores
    python -m benchmarks passes growth        only these; the others stay as they are in the file
    python docs/build_reference.py            afterwards: brings docs/scale.md up to date

Every comparison is made within one run, all parties in turn, because a machine's speed changes with what else it does.
The rivals need the extra ``test``, for torch, implicit and concept-erasure; the section ``device`` torch and a GPU, and
where there is none it says so and leaves the figures as they are.
"""

import argparse
import json
from pathlib import Path

from benchmarks import device, growth, passes, process, rivals
from benchmarks.measuring import conditions

SECTIONS = {"passes": passes, "growth": growth, "process": process, "rivals": rivals, "device": device}
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "scale.json"


def main() -> None:
    """Run sections and replace their figures in the file of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], metavar="|".join(SECTIONS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    for name in asked.sections or SECTIONS:
        before = conditions()
        figures = []
        for figure in SECTIONS[name].measure():
            print(figure, flush=True)
            figures.append(figure.as_json())
        if not figures:  # nothing here to measure it on: what was measured elsewhere stays
            continue
        known = json.loads(asked.results.read_text(encoding="utf-8")) if asked.results.exists() else {}
        known[name] = {"what": SECTIONS[name].__doc__, "conditions": before, "figures": figures}
        ordered = {section: known[section] for section in SECTIONS if section in known}
        asked.results.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
