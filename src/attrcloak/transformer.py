"""Unlearning as a scikit-learn transformer, for pipelines that already work on matrices."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from attrcloak.data.attributes import Attribute, UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.data.ids import Ids
from attrcloak.errors import InvalidInput, NotSupported
from attrcloak.release import apply_eraser
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.method import MomentMethod, RowMethod
from attrcloak.unlearning.running import run

TYPES = [np.float64, np.float32]


class EraserTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Lower what the rows of a matrix tell about attributes of the people they stand for.

    Attributes of people are not the target ``y`` of a pipeline, so they come as ``attributes=`` (with metadata routing:
    ``set_fit_request(attributes=True)``), and ``y`` is ignored. Rows whose class is unknown stay as they are, bit for
    bit; with no attributes at all nobody asked for anything, and nothing moves.

    | attributes | rows |
    |---|---|
    | None | stay |
    | (n,) values | one attribute, named "attribute" |
    | mapping of name to (n,) values, or a data frame | one attribute a name |

    Args:
        method: a method value; None is ``Calibrated(slices=0)``, which leaves one affine map a cell.
        key: secret key of the null draw; None draws a fresh one that is forgotten.
        seed: of what is random but not secret.

    Attributes:
        eraser_: the fitted maps, a secret; None before anything moved, and for methods that move rows otherwise.
        objective_: L^AU before and after, in nats; None where nothing moved.
        n_features_in_: number of columns.
    """

    def __init__(
        self, method: MomentMethod | RowMethod | None = None, *, key: bytes | None = None, seed: int = 0
    ) -> None:
        self.method = method
        self.key = key
        self.seed = seed

    def fit(self, X: Any, y: Any = None, *, attributes: Any = None) -> Self:
        """Fit the maps to the rows of ``X`` (n, d) and their attributes; ``y`` is ignored."""
        self._fit(X, attributes)
        return self

    def fit_transform(self, X: Any, y: Any = None, *, attributes: Any = None) -> NDArray[np.floating]:
        """Fit, and return the rows moved. For methods that move rows otherwise than by maps this is the only way."""
        return self._fit(X, attributes)

    def transform(self, X: Any, *, attributes: Any = None) -> NDArray[np.floating]:
        """Move rows by the fitted maps. For people ``fit`` did not see, a map can *raise* the leak: audit, or refit.

        Args:
            X: (n, d) rows.
            attributes: of these rows, with the classes seen in ``fit``; None moves nothing.

        Raises:
            UnknownCell: a class or combination of classes not seen in ``fit``.
            NotSupported: the method left no maps.
        """
        check_is_fitted(self)
        rows = np.array(validate_data(self, X, dtype=TYPES, reset=False))
        people = _people(attributes, len(rows))
        if people is None:
            return rows
        if self.eraser_ is None:
            raise NotSupported(
                "the fitted method left no maps that could move other rows; use fit_transform, or a method that "
                "works in moment space, such as Calibrated(slices=0)"
            )
        return np.asarray(apply_eraser(self.eraser_, EmbeddingTable(people.ids, rows), people).vectors)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn should know: types are kept, and nothing is required of ``y``."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _fit(self, X: Any, attributes: Any) -> NDArray[np.floating]:
        rows = np.array(validate_data(self, X, dtype=TYPES))
        people = _people(attributes, len(rows))
        self.eraser_, self.objective_ = None, None
        if people is None:
            return rows
        method = Calibrated(slices=0) if self.method is None else self.method
        result = run(method, EmbeddingTable(people.ids, rows), people, key=self.key, seed=self.seed)
        self.eraser_, self.objective_ = result.eraser, (result.objective_before, result.objective_after)
        return np.array(result.table.vectors)


def as_transformer(
    method: MomentMethod | RowMethod | None = None, *, key: bytes | None = None, seed: int = 0
) -> EraserTransformer:
    """A method as a scikit-learn transformer; see ``EraserTransformer``."""
    return EraserTransformer(method, key=key, seed=seed)


def _people(attributes: Any, count: int) -> UserAttributes | None:
    if attributes is None:
        return None
    if isinstance(attributes, Mapping) or hasattr(attributes, "columns"):
        columns = {str(name): attributes[name] for name in getattr(attributes, "columns", attributes)}
    else:
        columns = {"attribute": attributes}
    problems, found = [], {}
    for name, values in columns.items():
        listed = np.asarray(values, dtype=object)
        if listed.shape != (count,):
            problems.append(f"attribute {name!r} has shape {listed.shape}, expected one value for each of {count} rows")
        else:
            found[name] = Attribute.from_values(name, listed.tolist())
    if problems:
        raise InvalidInput(problems)
    return UserAttributes(Ids.range(count), found)
