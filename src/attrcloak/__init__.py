"""Attribute unlearning for recommender embeddings: audit what user vectors leak, lower it, audit again.

    import attrcloak as ac

    table = ac.read_vectors("users.parquet")
    people = ac.read_people("people.csv", columns=["gender", "age"])
    print(ac.audit(table, people))
    release = ac.unlearn(table, people)

Names are looked up when they are first used, so that the import itself loads neither torch, scikit-learn nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrcloak.auditing import AuditReport, audit
    from attrcloak.comparison import ComparisonReport, compare
    from attrcloak.data import Attribute, EmbeddingTable, Ids, Interactions, Split, UserAttributes
    from attrcloak.data.datasets import load as load_dataset
    from attrcloak.data.people_files import read_people
    from attrcloak.data.vector_files import read_vectors, write_vectors
    from attrcloak.evaluation import UtilityReport, evaluate, paired_ratio
    from attrcloak.moments.eraser import Eraser
    from attrcloak.recommenders import train
    from attrcloak.release import Release, apply_eraser, plan, undo, unlearn
    from attrcloak.reporting import write_report
    from attrcloak.transformer import EraserTransformer, as_transformer
    from attrcloak.unlearning import (
        D2DR,
        LEACE,
        PAU,
        U2UR,
        AttrCloakDD,
        AttrCloakDF,
        Barycentre,
        Calibrated,
        CalibratedDD,
        CalibratedFlow,
        GaussianNoise,
        LabelFree,
        MeanRemoval,
    )

__version__ = "0.1.0"

_HOME = {
    "Attribute": "attrcloak.data",
    "EmbeddingTable": "attrcloak.data",
    "Ids": "attrcloak.data",
    "Interactions": "attrcloak.data",
    "Split": "attrcloak.data",
    "UserAttributes": "attrcloak.data",
    "load_dataset": "attrcloak.data.datasets:load",
    "read_people": "attrcloak.data.people_files",
    "read_vectors": "attrcloak.data.vector_files",
    "write_vectors": "attrcloak.data.vector_files",
    "train": "attrcloak.recommenders",
    "audit": "attrcloak.auditing",
    "AuditReport": "attrcloak.auditing",
    "Eraser": "attrcloak.moments.eraser",
    "AttrCloakDD": "attrcloak.unlearning",
    "AttrCloakDF": "attrcloak.unlearning",
    "Barycentre": "attrcloak.unlearning",
    "Calibrated": "attrcloak.unlearning",
    "CalibratedDD": "attrcloak.unlearning",
    "CalibratedFlow": "attrcloak.unlearning",
    "D2DR": "attrcloak.unlearning",
    "GaussianNoise": "attrcloak.unlearning",
    "LabelFree": "attrcloak.unlearning",
    "LEACE": "attrcloak.unlearning",
    "MeanRemoval": "attrcloak.unlearning",
    "PAU": "attrcloak.unlearning",
    "U2UR": "attrcloak.unlearning",
    "Release": "attrcloak.release",
    "apply_eraser": "attrcloak.release",
    "plan": "attrcloak.release",
    "undo": "attrcloak.release",
    "unlearn": "attrcloak.release",
    "UtilityReport": "attrcloak.evaluation",
    "evaluate": "attrcloak.evaluation",
    "paired_ratio": "attrcloak.evaluation",
    "ComparisonReport": "attrcloak.comparison",
    "compare": "attrcloak.comparison",
    "write_report": "attrcloak.reporting",
    "EraserTransformer": "attrcloak.transformer",
    "as_transformer": "attrcloak.transformer",
}
"""Where each public name lives: ``module``, or ``module:name`` where it has another name there."""

__all__ = [
    "D2DR",
    "LEACE",
    "PAU",
    "U2UR",
    "AttrCloakDD",
    "AttrCloakDF",
    "Attribute",
    "AuditReport",
    "Barycentre",
    "Calibrated",
    "CalibratedDD",
    "CalibratedFlow",
    "ComparisonReport",
    "EmbeddingTable",
    "Eraser",
    "EraserTransformer",
    "GaussianNoise",
    "Ids",
    "Interactions",
    "LabelFree",
    "MeanRemoval",
    "Release",
    "Split",
    "UserAttributes",
    "UtilityReport",
    "__version__",
    "apply_eraser",
    "as_transformer",
    "audit",
    "compare",
    "evaluate",
    "load_dataset",
    "paired_ratio",
    "plan",
    "read_people",
    "read_vectors",
    "train",
    "undo",
    "unlearn",
    "write_report",
    "write_vectors",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attrcloak' has no attribute {name!r}")
    module, _, inner = _HOME[name].partition(":")
    value = getattr(import_module(module), inner or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
