"""Classifiers that learn an attribute from the vectors of users whose class is known."""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrcloak.attackers.network import train_network
from attrcloak.errors import MissingExtra

Scores = NDArray[np.float64]
Codes = NDArray[np.integer]


class Attacker(Protocol):
    """A family of classifiers with its settings."""

    @property
    def name(self) -> str:
        """How reports call it."""
        ...

    @property
    def reads_sparse(self) -> bool:
        """Whether it takes SciPy sparse matrices as they are."""
        ...

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """Learn from some users, score others.

        Args:
            train: (m, d) vectors of users whose class is known, at least one.
            labels: (m,) their classes in [0, classes); a class may be missing.
            test: (t, d) vectors of the users under attack.
            classes: number of classes K, at least 2.
            seed: of everything random.

        Returns:
            (t, K) scores, not negative; the highest is the answer. 0 for classes missing from ``labels``.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LogisticRegressionAttacker:
    """Multinomial logistic regression: reads any linear leak.

    Attributes:
        c: inverse strength of the L2 penalty, on standardised columns (sparse matrices are taken as they are).
        max_steps: at most this many steps of L-BFGS.
        balanced: weigh every class the same.
    """

    name: ClassVar[str] = "logistic"
    reads_sparse: ClassVar[bool] = True

    c: float = 0.1
    max_steps: int = 1000
    balanced: bool = True

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """See ``Attacker``."""
        present, codes = _present(labels)
        if len(present) == 1:
            return _constant(present, test, classes)
        from sklearn.linear_model import LogisticRegression

        train, test = standardised(train, test)
        model = LogisticRegression(C=self.c, max_iter=self.max_steps, tol=1e-3, random_state=seed)
        model.fit(train, codes, sample_weight=weights(codes, len(present), self.balanced))
        return _spread(model.predict_proba(test), present, classes)


@dataclass(frozen=True, kw_only=True)
class MLPAttacker:
    """A network of three layers (two hidden ones): reads smooth leaks that are not linear.

    Attributes:
        hidden: widths of the hidden layers.
        epochs: rounds over the known users; more of them where that makes fewer than ``min_steps`` batches.
        min_steps: least number of steps of Adam.
        batch: users in a step.
        learning_rate: of Adam, going down linearly to 0.
        penalty: L2 penalty on the weights, for the mean loss of a batch.
        balanced: weigh every class the same.
        standardise: take mean and deviation of each column out first. Without it a network is blind to whatever was
            made small, such as a class gathered in one point.
    """

    name: ClassVar[str] = "mlp"
    reads_sparse: ClassVar[bool] = False

    hidden: tuple[int, ...] = (128, 64)
    epochs: int = 25
    min_steps: int = 300
    batch: int = 200
    learning_rate: float = 2e-3
    penalty: float = 0.01
    balanced: bool = True
    standardise: bool = True

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """See ``Attacker``."""
        present, codes = _present(labels)
        if len(present) == 1:
            return _constant(present, test, classes)
        if self.standardise:
            train, test = standardised(train, test)
        network = train_network(
            train,
            codes,
            weights(codes, len(present), self.balanced),
            hidden=self.hidden,
            epochs=self.epochs,
            min_steps=self.min_steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            penalty=self.penalty,
            seed=seed,
        )
        return _spread(network.probabilities(test), present, classes)


@dataclass(frozen=True, kw_only=True)
class XGBoostAttacker:
    """Gradient-boosted trees: reads thresholds, interactions and tails.

    Attributes:
        rounds: trees a class.
        depth: of each tree.
        learning_rate: shrinkage of each tree.
        columns: share of the columns each tree sees.
        bins: of the histogram of each column.
        balanced: weigh every class the same.
    """

    name: ClassVar[str] = "xgboost"
    reads_sparse: ClassVar[bool] = False

    rounds: int = 60
    depth: int = 4
    learning_rate: float = 0.15
    columns: float = 0.5
    bins: int = 32
    balanced: bool = True

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """See ``Attacker``.

        Raises:
            MissingExtra: XGBoost is not installed.
        """
        present, codes = _present(labels)
        if len(present) == 1:
            return _constant(present, test, classes)
        try:
            import xgboost
        except ImportError as error:
            raise MissingExtra("the XGBoost attacker", "xgboost") from error

        train, test = standardised(train, test)
        two = len(present) == 2
        settings = {
            "objective": "binary:logistic" if two else "multi:softprob",
            "tree_method": "hist",
            "max_depth": self.depth,
            "eta": self.learning_rate,
            "colsample_bytree": self.columns,
            "max_bin": self.bins,
            "nthread": 1,
            "seed": seed,
            "verbosity": 0,
            **({} if two else {"num_class": len(present)}),
        }
        weight = weights(codes, len(present), self.balanced)
        matrix = xgboost.QuantileDMatrix(train, codes, weight=weight, max_bin=self.bins, nthread=1)
        found = np.asarray(xgboost.train(settings, matrix, self.rounds).inplace_predict(test), dtype=np.float64)
        return _spread(np.column_stack((1 - found, found)) if two else found, present, classes)


@dataclass(frozen=True, kw_only=True)
class QDAAttacker:
    """Quadratic discriminant with equal priors: a Gaussian a class, covariances shrunk towards the pooled one.

    Attributes:
        pooling_per_dimension: shrinkage rho_k = p d / (p d + n_k), in users per dimension; not negative.
        ridge: added to every covariance of the standardised vectors; above 0.
    """

    name: ClassVar[str] = "qda"
    reads_sparse: ClassVar[bool] = False

    pooling_per_dimension: float = 1.0
    ridge: float = 1e-3

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """See ``Attacker``; nothing here is random."""
        present, codes = _present(labels)
        train, test = (part.astype(np.float64) for part in standardised(train, test))
        d, counts = train.shape[1], np.bincount(codes)
        means = np.stack([train[codes == k].mean(axis=0) for k in range(len(present))])
        deviations = [train[codes == k] - means[k] for k in range(len(present))]
        pooled = sum(x.T @ x for x in deviations) / len(train)
        log_density = np.empty((len(test), len(present)))
        for k, x in enumerate(deviations):
            share = self.pooling_per_dimension * d / (self.pooling_per_dimension * d + counts[k])
            covariance = (1 - share) * (x.T @ x) / counts[k] + share * pooled + self.ridge * np.eye(d)
            factor = np.linalg.cholesky(covariance)
            distance = np.linalg.solve(factor, (test - means[k]).T)
            log_density[:, k] = -0.5 * (distance**2).sum(axis=0) - np.log(np.diag(factor)).sum()
        density = np.exp(log_density - log_density.max(axis=1, keepdims=True))
        return _spread(density / density.sum(axis=1, keepdims=True), present, classes)


@dataclass(frozen=True, kw_only=True)
class KNNAttacker:
    """Votes of the nearest known users, each vote divided by the size of its class.

    Attributes:
        neighbours: number of votes; fewer where fewer users are known.
    """

    name: ClassVar[str] = "knn"
    reads_sparse: ClassVar[bool] = False

    neighbours: int = 25

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """See ``Attacker``; nothing here is random."""
        from sklearn.neighbors import NearestNeighbors

        present, codes = _present(labels)
        train, test = standardised(train, test)
        search = NearestNeighbors(n_neighbors=min(self.neighbours, len(train)), algorithm="brute", n_jobs=1).fit(train)
        voters = codes[search.kneighbors(test, return_distance=False)]
        votes = np.stack([(voters == k).sum(axis=1) for k in range(len(present))], axis=1) / np.bincount(codes)
        return _spread(votes / votes.sum(axis=1, keepdims=True), present, classes)


@dataclass(frozen=True, kw_only=True)
class RandomAttacker:
    """Guesses every class with the same probability and looks at nothing: what an attack has to beat."""

    name: ClassVar[str] = "random"
    reads_sparse: ClassVar[bool] = True

    def fit_predict(self, train: Any, labels: Codes, test: Any, classes: int, seed: int) -> Scores:
        """See ``Attacker``; classes nobody is known of are guessed as well."""
        scores = np.random.default_rng(seed).random((test.shape[0], classes))
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))


def weights(codes: NDArray[np.integer], classes: int, balanced: bool) -> NDArray[np.float32]:
    """(m,) weight of each known user, mean 1; ``balanced`` gives every class the same total."""
    if not balanced:
        return np.ones(len(codes), dtype=np.float32)
    counts = np.bincount(codes, minlength=classes)
    return np.asarray((len(codes) / (classes * np.maximum(counts, 1)))[codes], dtype=np.float32)


def standardised(train: Any, test: Any) -> tuple[Any, Any]:
    """Both parts in float32 with the mean and deviation of the known users taken out; sparse ones as they are."""
    if not isinstance(train, np.ndarray):
        return train, test
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    # A column that is constant but for rounding would otherwise become noise of size 1.
    deviation = np.where(deviation > 1e-7 * np.abs(mean), deviation, np.inf)
    first, second = (((part - mean) / deviation).astype(np.float32) for part in (train, test))
    # Whoever lies 30 deviations out is told apart at 30 as well, and no sum overflows.
    return np.clip(first, -30, 30), np.clip(second, -30, 30)


def _present(labels: NDArray[np.integer]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.unique(labels, return_inverse=True)


def _spread(found: NDArray[np.floating], present: NDArray[np.integer], classes: int) -> Scores:
    scores = np.zeros((len(found), classes))
    scores[:, present] = found
    return scores


def _constant(present: NDArray[np.integer], test: Any, classes: int) -> Scores:
    return _spread(np.ones((test.shape[0], 1)), present, classes)
