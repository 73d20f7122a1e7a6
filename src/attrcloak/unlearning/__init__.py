"""The methods, one file each.

METHODS is the whole list: adding one is a file, a line here and an entry in the contract tests.
"""

from attrcloak.unlearning.attrcloak_dd import AttrCloakDD
from attrcloak.unlearning.attrcloak_df import AttrCloakDF
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.concept_erasure import LEACE, Barycentre, MeanRemoval
from attrcloak.unlearning.method import MomentMethod, RowMethod, Rows, Solution, UnlearningResult, run
from attrcloak.unlearning.noise import GaussianNoise

METHODS: dict[str, type[MomentMethod] | type[RowMethod]] = {
    "attrcloak-df": AttrCloakDF,
    "attrcloak-dd": AttrCloakDD,
    "calibrated": Calibrated,
    "barycentre": Barycentre,
    "leace": LEACE,
    "mean-removal": MeanRemoval,
    "noise": GaussianNoise,
}

__all__ = [
    "LEACE",
    "METHODS",
    "AttrCloakDD",
    "AttrCloakDF",
    "Barycentre",
    "Calibrated",
    "GaussianNoise",
    "MeanRemoval",
    "MomentMethod",
    "RowMethod",
    "Rows",
    "Solution",
    "UnlearningResult",
    "run",
]
