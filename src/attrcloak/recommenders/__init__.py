"""The models. ``train`` is the one door; torch and implicit are imported only by the model that needs them."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Protocol

from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidSettings, not_among
from attrcloak.progress import Progress
from attrcloak.recommenders.recommender import BPRLoss, Recommender

ModelName = Literal["als", "bpr", "bpr-mf", "ncf", "lightgcn"]
MODELS: tuple[ModelName, ...] = ("als", "bpr", "bpr-mf", "ncf", "lightgcn")

__all__ = ["MODELS", "BPRLoss", "Model", "ModelName", "Recommender", "configured", "train"]


class Model(Protocol):
    """A model is its settings: a frozen dataclass with ``fit``."""

    def fit(
        self,
        split: Split,
        seed: int = 0,
        progress: Progress | None = None,
        checkpoint: Path | None = None,
    ) -> Recommender:
        """Train on ``split.train``; validation items only decide when to stop, test items are never read."""
        ...


def train(
    model: str,
    split: Split,
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> Recommender:
    """Train one of the models by name.

    Args:
        model: "als" or "bpr" (by the implicit library), "bpr-mf", "ncf" or "lightgcn" (torch).
        split: what to learn from and, for early stopping, the validation items.
        seed: of initial values, order and negatives. The same seed gives the same vectors on the same machine.
        settings: fields of the model's class to set; the rest keep their defaults. Empty or None is the default.
        progress: called with (stage, done, total).
        checkpoint: a file (.safetensors) that torch models write their state to while they train, and continue from
            when it is there; the vectors are the same, bit for bit, as without an interruption. ALS and BPR, which are
            fitted in one go, ignore it.

    Raises:
        InvalidSettings: no such model or setting; the nearest known name is given.
        InvalidInput: the checkpoint is of another training; what differs is named.
        MissingExtra: the library the model needs is not installed.
    """
    return configured(model, settings).fit(split, seed, progress, checkpoint)


def configured(model: str, settings: Mapping[str, Any] | None = None) -> Model:
    """The model of that name with some of its settings changed.

    Raises:
        InvalidSettings: no such model or setting; the nearest known name is given.
        MissingExtra: the library the model needs is not installed.
    """
    kind = model_class(model)
    chosen = dict(settings or {})
    known = [field.name for field in fields(kind)]
    for name in chosen:
        if name not in known:
            raise InvalidSettings(not_among(f"model {model!r} has no setting", name, known))
    fitted: Model = kind(**chosen)
    return fitted


def model_class(model: str) -> type[Any]:
    """The class of a model's settings. Asking for a torch model imports torch; nothing else does."""
    match model:
        case "als":
            from attrcloak.recommenders.implicit_models import ALS

            return ALS
        case "bpr":
            from attrcloak.recommenders.implicit_models import BPR

            return BPR
        case "bpr-mf":
            from attrcloak.recommenders.bpr_mf import BPRMF

            return BPRMF
        case "ncf":
            from attrcloak.recommenders.ncf import NCF

            return NCF
        case "lightgcn":
            from attrcloak.recommenders.lightgcn import LightGCN

            return LightGCN
        case _:
            raise InvalidSettings(not_among("there is no model", model, MODELS))
