"""Recommenders that protect attributes while they are trained: the rivals of unlearning afterwards, one file each.

PROTECTED is the whole list: adding one is a file, a name and a case here, and an entry in the contract tests. Each is
imported by name only, so that those without torch work without torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidSettings, not_among
from attrcloak.progress import Progress
from attrcloak.recommenders.recommender import Recommender

PROTECTED: tuple[str, ...] = ("rap", "blurme", "ldp-sh", "receraser")

__all__ = ["PROTECTED", "ProtectedModel", "protected_class"]


class ProtectedModel(Protocol):
    """A protection is its settings: a frozen dataclass with ``fit``."""

    name: ClassVar[str]

    def fit(
        self,
        backbone: str,
        split: Split,
        people: UserAttributes,
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        checkpoints: Path | None = None,
    ) -> Recommender:
        """Train a recommender under the protection.

        Args:
            backbone: name of the recommender, one of ``recommenders.MODELS``.
            split: what to learn from; never changed. Test items are never read.
            people: attributes and who asked for what, joined by id. Users whose class is unknown or who did not ask are
                left as they are, as far as the protection allows.
            settings: fields of the recommender's class to set; the rest keep their defaults.
            seed: the same seed gives the same vectors.
            progress: called with (stage, done, total).
            checkpoints: a folder, made when it is needed, for the states of the torch models that are trained, one file
                each. Called again with the same folder, a fit that was interrupted goes on from them and ends in the
                same vectors. Delete the folder afterwards. See ``checkpoint`` of ``recommenders.train``.

        Returns:
            The recommender under its own name. Its ``settings`` are those of the recommender and, under "protection",
            the name and settings of the protection and what it spent; its ``seconds`` are of everything the protection
            did, interrupted runs included.
        """
        ...


def protected_class(name: str) -> type[Any]:
    """The class of a protection's settings. Asking for one that needs torch imports torch; nothing else does.

    Raises:
        InvalidSettings: there is no such protection; the nearest known name is given.
        MissingExtra: the library it needs is not installed.
    """
    match name:
        case "rap":
            from attrcloak.recommenders.protected.rap import RAP

            return RAP
        case "blurme":
            from attrcloak.recommenders.protected.blurme import BlurMe

            return BlurMe
        case "ldp-sh":
            from attrcloak.recommenders.protected.ldp_sh import LDPSH

            return LDPSH
        case "receraser":
            from attrcloak.recommenders.protected.receraser import RecEraser

            return RecEraser
        case _:
            raise InvalidSettings(not_among("there is no protection", name, PROTECTED))
