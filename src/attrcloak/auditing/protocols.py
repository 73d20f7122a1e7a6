"""Who knows what: the share of labels an attacker holds, and how often the attack is repeated."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How attacks are repeated and what is read off them.

    Attributes:
        name: how reports call it.
        known: shares of users whose class the attacker knows, each in (0, 1). The extra surfaces are attacked with the
            largest share only.
        folds: most rotations of known and attacked users a seed. 80 % known in 5 rotations is five-fold
            cross-validation: every user is attacked once. 20 % known in 5 rotations trains on each fifth in turn and
            attacks the rest.
        seeds: repeats with other splits and other attacker seeds.
        permutations: label shuffles behind each permutation p-value, at least 99.
        resamples: bootstrap samples behind each interval, at least 99.
        metric: what to quote from it. All metrics are always there.
        balanced: class-balanced attackers; the paper's are not.
        standardise: the MLP sees standardised columns. The paper's can hardly have: it finds next to nothing in vectors
            from which its XGBoost reads every label (U2U-R).
        equations_known: shares of labels known to the moment-equation attacker; empty leaves it out.
    """

    name: str
    known: tuple[float, ...] = (0.2, 0.8)
    folds: int = 5
    seeds: int = 3
    permutations: int = 999
    resamples: int = 1000
    metric: Literal["balanced_accuracy", "accuracy"] = "balanced_accuracy"
    balanced: bool = True
    standardise: bool = True
    equations_known: tuple[float, ...] = (0.2, 0.5, 0.8)

    def __post_init__(self) -> None:
        object.__setattr__(self, "known", tuple(self.known))
        object.__setattr__(self, "equations_known", tuple(self.equations_known))
        shares = (*self.known, *self.equations_known)
        if not self.known or not all(0 < share < 1 for share in shares):
            raise InvalidSettings(f"known shares are {shares}, expected at least one, each between 0 and 1")
        if min(self.folds, self.seeds) < 1 or min(self.permutations, self.resamples) < 99:
            raise InvalidSettings("folds and seeds must be at least 1, permutations and resamples at least 99")

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


SOUND = Protocol(name="sound")
"""The default: 20 % and 80 % of labels known, three seeds, balanced accuracy."""

PAPER = Protocol(
    name="paper",
    known=(0.2,),
    folds=1,
    seeds=1,
    metric="accuracy",
    balanced=False,
    standardise=False,
    equations_known=(),
)
"""The reading of Wu et al. (ICDE 2025) that reproduces their figures: one 20/80 split, plain accuracy."""


def rotations(codes: NDArray[np.integer], known: float, folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """Which users the attacker knows, once for each rotation; the others are attacked.

    Users are laid out on a circle, each class spread evenly over it in random order, and the known part is an arc of
    length ``known``. Rotations move it on until every user has been attacked (known above 1/2) or known (below), or
    ``folds`` are made.

    Args:
        codes: (n,) classes, not negative.
        known: share of known users, in (0, 1).
        folds: most rotations.
        seed: of the layout.
    """
    rng = np.random.default_rng(seed)
    places = np.empty(len(codes))
    for k in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == k))
        places[members] = (np.arange(len(members)) + rng.random()) / len(members)
    arc = min(known, 1 - known)
    count = min(folds, int(np.ceil(1 / arc - 1e-9)))
    found = []
    for rotation in range(count):
        inside = (places - rotation * arc) % 1.0 < arc
        found.append(inside if known <= 0.5 else ~inside)
    return found
