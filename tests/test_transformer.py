"""The scikit-learn face: keeps scikit-learn's own contract, and moves what the library moves."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from attrcloak.errors import InvalidInput, NotSupported, UnknownCell
from attrcloak.transformer import EraserTransformer, as_transformer
from attrcloak.unlearning import Barycentre, Calibrated, GaussianNoise, MeanRemoval


@parametrize_with_checks([EraserTransformer(), EraserTransformer(MeanRemoval()), EraserTransformer(GaussianNoise())])
def test_scikit_learn_contract(estimator: EraserTransformer, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def leaky(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], size=300)
    rows = rng.normal(size=(300, 5))
    rows[group == "a", 0] += 2.0
    return rows, group


def gap(rows: NDArray[np.floating], group: NDArray[np.str_]) -> float:
    return float(np.linalg.norm(rows[group == "a"].mean(axis=0) - rows[group == "b"].mean(axis=0)))


@pytest.mark.parametrize("method", [None, MeanRemoval(), Barycentre()], ids=repr)
def test_lowers_the_gap_between_classes_and_leaves_the_input(method: MeanRemoval | None) -> None:
    rows, group = leaky()
    before = rows.copy()
    transformer = as_transformer(method, key=b"k" * 32)
    moved = transformer.fit_transform(rows, attributes=group)
    assert gap(moved, group) < 0.6 < 1.5 < gap(rows, group)  # labels that mean nothing leave about 0.3
    np.testing.assert_array_equal(rows, before)
    np.testing.assert_allclose(transformer.transform(rows, attributes=group), moved, rtol=1e-9, atol=1e-9)
    assert transformer.objective_ is not None
    assert transformer.objective_[1] < transformer.objective_[0]


def test_without_attributes_nobody_asked_so_nothing_moves() -> None:
    rows, group = leaky()
    transformer = as_transformer().fit(rows, attributes=group)
    np.testing.assert_array_equal(transformer.transform(rows), rows)
    np.testing.assert_array_equal(as_transformer().fit_transform(rows, group), rows)  # y is not an attribute


def test_rows_of_unknown_class_stay_bit_identical_and_types_are_kept() -> None:
    rows, group = leaky()
    unknown = np.where(np.arange(300) < 40, None, group)
    moved = as_transformer(MeanRemoval()).fit_transform(rows.astype(np.float32), attributes=unknown)
    assert moved.dtype == np.float32
    np.testing.assert_array_equal(moved[:40], rows.astype(np.float32)[:40])
    assert (moved[40:] != rows.astype(np.float32)[40:]).any(axis=1).all()


def test_several_attributes_by_name() -> None:
    rows, group = leaky()
    other = np.where(rows[:, 1] > 0, "x", "y")
    transformer = as_transformer(MeanRemoval())
    transformer.fit(rows, attributes={"group": group, "other": other})
    assert transformer.eraser_ is not None
    assert transformer.eraser_.key.attributes == ("group", "other")


def test_a_class_that_was_not_seen_is_an_error_that_names_it() -> None:
    rows, group = leaky()
    transformer = as_transformer(MeanRemoval()).fit(rows, attributes=group)
    with pytest.raises(UnknownCell, match=r"attribute=c \(2 users\)"):
        transformer.transform(rows[:2], attributes=["c", "c"])


def test_a_method_without_maps_moves_only_the_rows_it_was_fitted_on() -> None:
    rows, group = leaky()
    transformer = as_transformer(Calibrated(slices=2))
    assert gap(transformer.fit_transform(rows, attributes=group), group) < 1.0
    with pytest.raises(NotSupported, match="fit_transform"):
        transformer.transform(rows, attributes=group)


def test_attributes_of_another_length_are_refused_all_at_once() -> None:
    rows, group = leaky()
    with pytest.raises(InvalidInput) as caught:
        as_transformer().fit(rows, attributes={"one": group[:10], "two": group[:20]})
    assert len(caught.value.problems) == 2


def test_clones_with_its_settings() -> None:
    copy = clone(as_transformer(MeanRemoval(), seed=3))
    assert copy.method == MeanRemoval()
    assert copy.seed == 3
