"""ALS and BPR by the implicit library: the light default, without torch."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidSettings, MissingExtra
from attrcloak.moments.blas_threads import one_thread
from attrcloak.progress import Progress
from attrcloak.recommenders.recommender import Recommender
from attrcloak.recommenders.validation import validation_ndcg


@dataclass(frozen=True, kw_only=True)
class ALS:
    """Weighted matrix factorisation by alternating least squares (Hu, Koren, Volinsky 2008).

    Served and unlearned: the user factors as trained, scored by the dot product with the item factors.

    Attributes:
        factors: dimensions d.
        regularization: weight of the squared norm of the factors.
        alpha: confidence of an interaction against 1 for none.
        iterations: sweeps over users and items.
    """

    factors: int = 64
    regularization: float = 10.0
    alpha: float = 1.0
    iterations: int = 15

    def __post_init__(self) -> None:
        _check(factors=self.factors, alpha=self.alpha, iterations=self.iterations)
        if not self.regularization >= 0:
            raise InvalidSettings(f"regularization is {self.regularization}, expected 0 or more")

    def fit(
        self, split: Split, seed: int = 0, progress: Progress | None = None, checkpoint: Path | None = None
    ) -> Recommender:
        """Train on ``split.train``. One thread, so the same seed gives the same factors.

        The library fits in one go and in little time, so ``checkpoint`` is neither written nor read.
        """
        return _fit("als", _implicit("als").AlternatingLeastSquares, split, self, seed, progress)


@dataclass(frozen=True, kw_only=True)
class BPR:
    """Bayesian personalised ranking by stochastic gradient descent (Rendle et al. 2009), with item biases.

    Served and unlearned: the user factors. Their last column is the constant 1 that multiplies the item bias: it is
    part of the score and not of the user, so it is frozen.

    Attributes:
        factors: dimensions d; the served vectors have one column more.
        learning_rate: step of the descent.
        regularization: weight of the squared norms.
        iterations: passes over the interactions.
    """

    factors: int = 64
    learning_rate: float = 0.02
    regularization: float = 0.02
    iterations: int = 60

    def __post_init__(self) -> None:
        _check(factors=self.factors, learning_rate=self.learning_rate, iterations=self.iterations)
        if not self.regularization >= 0:
            raise InvalidSettings(f"regularization is {self.regularization}, expected 0 or more")

    def fit(
        self, split: Split, seed: int = 0, progress: Progress | None = None, checkpoint: Path | None = None
    ) -> Recommender:
        """Train on ``split.train``. One thread, so the same seed gives the same factors.

        The library fits in one go and in little time, so ``checkpoint`` is neither written nor read.
        """
        return _fit("bpr", _implicit("bpr").BayesianPersonalizedRanking, split, self, seed, progress)


def _check(**positive: float) -> None:
    for name, value in positive.items():
        if not value > 0:
            raise InvalidSettings(f"{name} is {value}, expected more than 0")


def _implicit(module: Literal["als", "bpr"]) -> Any:
    """The library's CPU module; its public front would pick a GPU where there is one, with other results."""
    try:
        import implicit.cpu.als
        import implicit.cpu.bpr
    except ImportError as error:
        raise MissingExtra(f"the model {module!r}", "implicit") from error
    return implicit.cpu.als if module == "als" else implicit.cpu.bpr


def _fit(
    name: Literal["als", "bpr"],
    build: Callable[..., Any],
    split: Split,
    settings: ALS | BPR,
    seed: int,
    progress: Progress | None,
) -> Recommender:
    from scipy.sparse import csr_matrix

    began = time.perf_counter()
    done = 0

    def report(*_: Any) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(f"training {name}", done, settings.iterations)

    # Threads of the linear algebra library beside the library's own slow it down; one thread also repeats exactly.
    with one_thread():
        library_model = build(**asdict(settings), random_state=seed, num_threads=1)
        library_model.fit(csr_matrix(split.train.matrix), show_progress=False, callback=report)
    users = np.ascontiguousarray(library_model.user_factors, dtype=np.float32)
    items = np.ascontiguousarray(library_model.item_factors, dtype=np.float32)
    table = EmbeddingTable(
        ids=split.train.users,
        vectors=users,
        represents="ALS user factors" if name == "als" else "BPR user factors (the last column is the constant 1)",
        frozen_columns=() if name == "als" else (users.shape[1] - 1,),
        scoring="dot" if name == "als" else "dot+constant",
    )
    reached = validation_ndcg(users, items, split)
    return Recommender(
        name=name,
        users=table,
        items=items,
        settings=asdict(settings),
        seed=seed,
        seconds=time.perf_counter() - began,
        history=() if reached is None else (reached,),
    )
