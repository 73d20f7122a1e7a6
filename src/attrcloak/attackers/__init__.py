"""The attackers of an audit. Each is a frozen value with its settings fixed in sight; none is tuned to the table."""

from collections.abc import Sequence
from importlib.util import find_spec

from attrcloak.attackers.classifiers import (
    Attacker,
    KNNAttacker,
    LogisticRegressionAttacker,
    MLPAttacker,
    QDAAttacker,
    RandomAttacker,
    XGBoostAttacker,
)
from attrcloak.attackers.moment_equations import MomentEquations, moment_equation_attack
from attrcloak.errors import MissingExtra

ATTACKERS: dict[str, type[Attacker]] = {
    "logistic": LogisticRegressionAttacker,
    "mlp": MLPAttacker,
    "xgboost": XGBoostAttacker,
    "qda": QDAAttacker,
    "knn": KNNAttacker,
    "random": RandomAttacker,
}

__all__ = [
    "ATTACKERS",
    "Attacker",
    "KNNAttacker",
    "LogisticRegressionAttacker",
    "MLPAttacker",
    "MomentEquations",
    "QDAAttacker",
    "RandomAttacker",
    "XGBoostAttacker",
    "moment_equation_attack",
    "require_attackers",
]


def require_attackers(names: Sequence[str]) -> None:
    """See that these attackers can run, before the work whose result they are to judge.

    Raises:
        MissingExtra: XGBoost is among them and not installed.
    """
    if XGBoostAttacker.name in names and find_spec("xgboost") is None:
        raise MissingExtra("the XGBoost attacker of the audit", "xgboost")
