"""Attribute unlearning for recommender embeddings: audit what user vectors leak, lower it, audit again.

    import attrcloak as ac

    table = ac.read_vectors("users.parquet")
    people = ac.read_people("people.csv", columns=["gender", "age"])
    print(ac.audit(table, people))
    release = ac.unlearn(table, people, ac.Calibrated())

Names are looked up when they are first used, so that the import itself loads neither torch, scikit-learn nor pyarrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrcloak.auditing import AuditReport as AuditReport
    from attrcloak.auditing import audit as audit
    from attrcloak.comparison import ComparisonReport as ComparisonReport
    from attrcloak.comparison import compare as compare
    from attrcloak.data import Attribute as Attribute
    from attrcloak.data import EmbeddingTable as EmbeddingTable
    from attrcloak.data import Ids as Ids
    from attrcloak.data import Interactions as Interactions
    from attrcloak.data import Split as Split
    from attrcloak.data import UserAttributes as UserAttributes
    from attrcloak.data.datasets import load as load_dataset
    from attrcloak.data.people_files import read_people as read_people
    from attrcloak.data.vector_files import read_vectors as read_vectors
    from attrcloak.data.vector_files import write_vectors as write_vectors
    from attrcloak.evaluation import UtilityReport as UtilityReport
    from attrcloak.evaluation import evaluate as evaluate
    from attrcloak.evaluation import paired_ratio as paired_ratio
    from attrcloak.moments.eraser import Eraser as Eraser
    from attrcloak.recommenders import train as train
    from attrcloak.release import Release as Release
    from attrcloak.release import apply_eraser as apply_eraser
    from attrcloak.release import plan as plan
    from attrcloak.release import undo as undo
    from attrcloak.release import unlearn as unlearn
    from attrcloak.reporting import write_report as write_report
    from attrcloak.unlearning import AttrCloakDD as AttrCloakDD
    from attrcloak.unlearning import AttrCloakDF as AttrCloakDF
    from attrcloak.unlearning import Barycentre as Barycentre
    from attrcloak.unlearning import Calibrated as Calibrated
    from attrcloak.unlearning import GaussianNoise as GaussianNoise
    from attrcloak.unlearning import LEACE as LEACE
    from attrcloak.unlearning import MeanRemoval as MeanRemoval

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
    "GaussianNoise": "attrcloak.unlearning",
    "LEACE": "attrcloak.unlearning",
    "MeanRemoval": "attrcloak.unlearning",
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
}
"""Where each public name lives: ``module``, or ``module:name`` where it has another name there."""

__all__ = [*_HOME, "__version__"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'attrcloak' has no attribute {name!r}")
    module, _, inner = _HOME[name].partition(":")
    value = getattr(import_module(module), inner or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
