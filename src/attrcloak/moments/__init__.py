"""The mathematics: pure functions of arrays in float64 that know no table, file, id or seed."""

from attrcloak.moments.cell_key import NOT_MARKED, CellKey
from attrcloak.moments.cell_moments import CellMoments, ClassMoments, cell_moments
from attrcloak.moments.eraser import Eraser
from attrcloak.moments.min_norm import leakage_weight
from attrcloak.moments.surrogate import surrogate, surrogate_gradient

__all__ = [
    "NOT_MARKED",
    "CellKey",
    "CellMoments",
    "ClassMoments",
    "Eraser",
    "cell_moments",
    "leakage_weight",
    "surrogate",
    "surrogate_gradient",
]
