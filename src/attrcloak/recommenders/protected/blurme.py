"""BlurMe: add items that are typical of the other classes to a profile, then train."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from attrcloak.data.attributes import Attribute, UserAttributes
from attrcloak.data.interactions import Interactions, Split
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.progress import Progress
from attrcloak.recommenders.protected.profiles import Profiles, held_out_known, rewrite, train_on
from attrcloak.recommenders.recommender import Recommender


@dataclass(frozen=True, kw_only=True)
class BlurMe:
    """Obfuscate profiles with items of the other classes (Weinsberg et al., RecSys 2012), then train.

    A logistic regression reads the attribute from the binary matrix of users and items. Each user who asked gets
    ``share`` times the length of the profile in items the user has not rated, from those that speak most against the
    user's own class. The source attacks with a classifier that learned from profiles as they were; one that learns from
    the new ones finds the added items themselves. Greedy choice gives all users of a class nearly the same items, and
    such an attacker then reads the class better than before: hence the default here is the source's second choice.

    With more than two classes, one regression a class against the rest; the source has two classes, for which this is
    the other class's list. With several attributes each gets the whole share, one after the other, no item twice: an
    attribute is blurred as much as it would be alone, and the profile grows by the share times their number.

    Everybody whose class is known teaches the regression; only those who asked get items, for the attributes they
    asked for. Validation items count as rated. Test items are not known while training and so are treated like any
    other unrated item: to spare them would tell which they are.

    Attributes:
        share: items added for each attribute, as a share of the profile, rounded, at least one. The default is the
            middle of the source's .01, .05 and .10: with the three attributes of MovieLens profiles grow by 15 %.
        strategy: "greedy" takes the items of the largest coefficients (the source's first choice), "sampled" draws in
            proportion to them, "random" draws from the list evenly.
        strengths: inverse L2 penalties to choose from, by held-out log loss.
        folds: of the cross-validation; coefficients are means over its fits.
    """

    name: ClassVar[str] = "blurme"

    share: float = 0.05
    strategy: Literal["greedy", "sampled", "random"] = "sampled"
    strengths: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0)
    folds: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "strengths", tuple(self.strengths))
        if not 0 < self.share <= 1:
            raise InvalidSettings(f"share is {self.share}, expected more than 0 and at most 1")
        if self.strategy not in ("greedy", "sampled", "random"):
            raise InvalidSettings(f"there is no strategy {self.strategy!r}; there are: greedy, sampled, random")
        if not self.strengths or not min(self.strengths) > 0:
            raise InvalidSettings(f"strengths are {self.strengths}, expected at least one, each more than 0")
        if self.folds < 2:
            raise InvalidSettings(f"folds is {self.folds}, expected at least 2")

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
        """Obfuscate the training profiles and train on them; see ``ProtectedModel``.

        Raises:
            InvalidInput: an attribute somebody asked for has fewer than two classes with known users.
        """
        began = time.perf_counter()
        blurred = self.obfuscate(split.train, people, also_rated=held_out_known(split), seed=seed, progress=progress)
        rewriting_seconds = time.perf_counter() - began
        spent = {"name": self.name, **asdict(self), "added": len(blurred) - len(split.train)}
        return train_on(
            blurred,
            backbone,
            split,
            spent,
            settings=settings,
            seed=seed,
            progress=progress,
            checkpoints=checkpoints,
            rewriting_seconds=rewriting_seconds,
        )

    def obfuscate(
        self,
        interactions: Interactions,
        people: UserAttributes,
        *,
        also_rated: Interactions | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> Interactions:
        """The same interactions and, after them, the added ones; the input is untouched.

        Args:
            interactions: the profiles.
            people: attributes and who asked, joined by id.
            also_rated: the profiles with everything the user has rated, none of which is added. ``interactions`` by
                default.
            seed: of folds, draws and times.
            progress: called with ("reading <attribute>", fits done, fits).

        Returns:
            Times and ratings of added items: see ``profiles.rewrite``. Fewer items than the share where a list is
            used up.

        Raises:
            InvalidInput: an attribute somebody asked for has fewer than two classes with known users.
        """
        people = people.align(interactions.users)
        rng = np.random.default_rng(seed)
        rated = Profiles.of(interactions if also_rated is None else also_rated)
        lengths = Profiles.of(interactions).lengths
        added: dict[int, NDArray[np.int64]] = {}
        for column in people.columns.values():
            asked = np.flatnonzero(column.marks & (lengths > 0))
            if len(asked) == 0:
                continue
            coefficients = item_coefficients(interactions, column, self.strengths, self.folds, rng, progress)
            lists = [_list_against(row) for row in coefficients]
            for user in asked.tolist():
                before = added.get(user, np.empty(0, dtype=np.int64))
                owned = np.zeros(len(interactions.items), dtype=bool)
                owned[rated[user]] = True
                owned[before] = True
                code = int(column.codes[user])
                candidates = lists[code][~owned[lists[code]]]
                wanted = min(len(candidates), max(1, round(self.share * int(lengths[user]))))
                added[user] = np.concatenate((before, self._chosen(candidates, wanted, coefficients[code], rng)))
        users = np.repeat(np.fromiter(added, dtype=np.int64, count=len(added)), [len(v) for v in added.values()])
        items = np.concatenate((np.empty(0, dtype=np.int64), *added.values()))
        return rewrite(interactions, np.ones(len(interactions), dtype=bool), users, items, rng)

    def _chosen(
        self, candidates: NDArray[np.int64], wanted: int, coefficients: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """(wanted,) of the candidates, which stand in order of their coefficient, most negative first."""
        if self.strategy == "greedy" or wanted == 0:
            return candidates[:wanted]
        odds = np.abs(coefficients[candidates]) if self.strategy == "sampled" else np.ones(len(candidates))
        return rng.choice(candidates, size=wanted, replace=False, p=odds / odds.sum())


def item_coefficients(
    interactions: Interactions,
    column: Attribute,
    strengths: tuple[float, ...],
    folds: int,
    rng: np.random.Generator,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """How much each item speaks for each class: L2 logistic regression, one class against the rest.

    The inverse penalty is the one of the lowest held-out log loss, summed over the classes, and the coefficients are
    the means over its fits on all parts but one.

    Args:
        interactions: read as a binary matrix.
        column: the attribute of the same users in the same order; users with a known class and a profile are used.
        strengths: inverse penalties to choose from.
        folds: parts of the cross-validation, each class spread evenly over them.
        rng: deals the users out to the parts.
        progress: called with ("reading <attribute>", fits done, fits).

    Returns:
        (K, I) coefficients; 0 for a class without users.

    Raises:
        InvalidInput: fewer than two classes have users.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    matrix = csr_matrix(interactions.matrix)
    used = np.flatnonzero(column.known & (np.diff(matrix.indptr) > 0))
    matrix, codes = matrix[used], column.codes[used]
    present = np.unique(codes)
    if len(present) < 2:
        raise InvalidInput(
            f"attribute {column.name!r}: only {len(present)} of its {len(column.classes)} classes has known users with "
            "interactions, and BlurMe needs two to tell apart; leave the attribute out, or add users of another class"
        )
    part = np.empty(len(codes), dtype=np.int64)
    for k in present:
        members = rng.permutation(np.flatnonzero(codes == k))
        part[members] = np.arange(len(members)) % folds
    total = np.zeros((len(strengths), len(column.classes), matrix.shape[1]))
    fits = np.zeros(len(column.classes), dtype=np.int64)
    loss = np.zeros(len(strengths))
    # Of two classes one regression says all: the other's is its negative.
    modelled = present[1:] if len(present) == 2 else present
    done, all_fits = 0, folds * len(modelled) * len(strengths)
    for fold in range(folds):
        train, test = matrix[part != fold], matrix[part == fold]
        for k in modelled:
            belongs, held_out = codes[part != fold] == k, codes[part == fold] == k
            done += len(strengths)
            if len(held_out) == 0 or belongs.all() or not belongs.any():
                continue  # a class of one user is missing from one of the parts
            fits[k] += 1
            for number, strength in enumerate(strengths):
                model = LogisticRegression(C=strength, tol=1e-3, max_iter=1000).fit(train, belongs)
                margin = model.decision_function(test)
                loss[number] += np.logaddexp(0.0, np.where(held_out, -margin, margin)).sum()
                total[number, k] += model.coef_[0]
            if progress is not None:
                progress(f"reading {column.name}", done, all_fits)
    mean = total[np.argmin(loss)] / np.maximum(fits, 1)[:, None]
    if len(present) == 2:
        mean[present[0]] = -mean[present[1]]
    return np.asarray(mean, dtype=np.float64)


def _list_against(coefficients: NDArray[np.float64]) -> NDArray[np.int64]:
    """Items that speak against a class, most of all first; equal ones in the order of the items."""
    order = np.argsort(coefficients, kind="stable")
    return order[coefficients[order] < 0]
