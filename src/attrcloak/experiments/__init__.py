"""Experiments: grids of data sets, recommenders, methods and seeds, measured cell by cell, and tabled.

A plan (a TOML file) says what to run; ``run`` measures its cells and keeps each in a file, so that an interrupted run
goes on where it was; ``rows_of`` averages cells over seeds and puts the published numbers beside them.
"""

from attrcloak.experiments.cells import run
from attrcloak.experiments.frontier import Curve, frontier
from attrcloak.experiments.measurement import Cell, Measurement
from attrcloak.experiments.plan import TABLES, Plan, plan_of_table, read_plan
from attrcloak.experiments.tables import Row, rows_of

__all__ = [
    "TABLES",
    "Cell",
    "Curve",
    "Measurement",
    "Plan",
    "Row",
    "frontier",
    "plan_of_table",
    "read_plan",
    "rows_of",
    "run",
]
