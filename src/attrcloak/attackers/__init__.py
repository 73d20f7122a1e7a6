"""The attackers of an audit. Each is a frozen value with its settings fixed in sight; none is tuned to the table."""

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
]
