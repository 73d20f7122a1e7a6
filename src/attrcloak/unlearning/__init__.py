"""The methods, one file each.

METHODS is the whole list: adding one is a file, a line here and an entry in the contract tests.
"""

from attrcloak.unlearning.attrcloak_dd import AttrCloakDD
from attrcloak.unlearning.attrcloak_df import AttrCloakDF
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.calibrated_dd import CalibratedDD
from attrcloak.unlearning.calibrated_flow import CalibratedFlow
from attrcloak.unlearning.coding_rate import PAU
from attrcloak.unlearning.concept_erasure import LEACE, Barycentre, MeanRemoval
from attrcloak.unlearning.label_free import LabelFree
from attrcloak.unlearning.method import MomentMethod, RowMethod, Rows, Solution, UnlearningResult
from attrcloak.unlearning.noise import GaussianNoise
from attrcloak.unlearning.pot_au import D2DR, U2UR
from attrcloak.unlearning.running import run

METHODS: dict[str, type[MomentMethod] | type[RowMethod]] = {
    "attrcloak-df": AttrCloakDF,
    "attrcloak-dd": AttrCloakDD,
    "calibrated": Calibrated,
    "calibrated-dd": CalibratedDD,
    "calibrated-flow": CalibratedFlow,
    "barycentre": Barycentre,
    "leace": LEACE,
    "label-free": LabelFree,
    "mean-removal": MeanRemoval,
    "noise": GaussianNoise,
    "u2u-r": U2UR,
    "d2d-r": D2DR,
    "pau": PAU,
}

DEMONSTRATED = (
    "attrcloak-df",
    "attrcloak-dd",
    "calibrated",
    "calibrated-flow",
    "barycentre",
    "leace",
    "mean-removal",
    "noise",
)
"""Methods a comparison runs when none are named: ours, the closed forms and the control, in a few minutes. Others run
when asked for by name: the published rivals; label-free, for those who cannot be sure that old copies are gone; and
calibrated-dd, which is calibrated-flow where vectors are all of one length."""

__all__ = [
    "D2DR",
    "DEMONSTRATED",
    "LEACE",
    "METHODS",
    "PAU",
    "U2UR",
    "AttrCloakDD",
    "AttrCloakDF",
    "Barycentre",
    "Calibrated",
    "CalibratedDD",
    "CalibratedFlow",
    "GaussianNoise",
    "LabelFree",
    "MeanRemoval",
    "MomentMethod",
    "RowMethod",
    "Rows",
    "Solution",
    "UnlearningResult",
    "run",
]
