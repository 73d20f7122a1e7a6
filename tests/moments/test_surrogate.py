"""The surrogate and its gradient against independent computations of the same thing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal, kl_divergence

from attrcloak.moments import CellKey, cell_moments, surrogate, surrogate_gradient


def labelled(seed: int, users: int = 120, dim: int = 4, classes: int = 3, apart: float = 1.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, users)
    labels[:classes] = np.arange(classes)
    stretch = rng.normal(size=(classes, dim, dim)) / 2 + np.eye(dim)
    x = np.einsum("nij,nj->ni", stretch[labels], rng.normal(size=(users, dim))) + apart * labels[:, None]
    return x, labels


def marginal_of(x, labels, classes: int = 3):
    key, cells = CellKey.of(("a",), ([str(k) for k in range(classes)],), labels[:, None])
    return cell_moments(x, cells, key).marginal(0)


def surrogate_by_torch(x, labels, ridge, pooling, classes: int = 3):
    """The definition, by autograd: weighted KL of each class's Gaussian from the moment-matched global one."""
    users, d = x.shape
    rows = [x[labels == k] for k in range(classes)]
    weights = [len(r) / users for r in rows]
    means = [r.mean(dim=0) for r in rows]
    covariances = [(r - m).T @ (r - m) / len(r) for r, m in zip(rows, means, strict=True)]
    within = sum(w * s for w, s in zip(weights, covariances, strict=True))
    shrink = [pooling / (pooling + len(r)) for r in rows]
    covariances = [(1 - rho) * s + rho * within for rho, s in zip(shrink, covariances, strict=True)]
    centre = sum(w * m for w, m in zip(weights, means, strict=True))
    everyone = sum(
        w * (s + torch.outer(m - centre, m - centre)) for w, s, m in zip(weights, covariances, means, strict=True)
    )
    eye = ridge * torch.eye(d, dtype=x.dtype)
    target = MultivariateNormal(centre, everyone + eye)
    return sum(
        w * kl_divergence(MultivariateNormal(m, s + eye), target)
        for w, m, s in zip(weights, means, covariances, strict=True)
    )


@given(st.integers(0, 1000))
def test_without_ridge_the_log_det_form_is_the_sum_of_kl(seed):
    x, labels = labelled(seed)
    by_definition = float(surrogate_by_torch(torch.tensor(x), labels, 0.0, 0.0))
    assert surrogate(marginal_of(x, labels)) == pytest.approx(by_definition, rel=1e-9)


@pytest.mark.parametrize("pooling", [0.0, 7.0])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_gradient_is_autograds(ridge, pooling):
    x, labels = labelled(3)
    rows = torch.tensor(x, requires_grad=True)
    value = surrogate_by_torch(rows, labels, ridge, pooling)
    value.backward()
    linear, constant = surrogate_gradient(marginal_of(x, labels), ridge, pooling)
    ours = np.einsum("nij,nj->ni", linear[labels], x) + constant[labels]
    assert value.item() == pytest.approx(surrogate(marginal_of(x, labels), ridge, pooling), rel=1e-10)
    np.testing.assert_allclose(ours, rows.grad.numpy(), rtol=1e-8, atol=1e-12)


@given(st.integers(0, 1000))
def test_the_gradient_sums_to_zero_over_users(seed):
    x, labels = labelled(seed)
    linear, constant = surrogate_gradient(marginal_of(x, labels), 0.1, 5.0)
    total = (np.einsum("nij,nj->ni", linear[labels], x) + constant[labels]).sum(axis=0)
    np.testing.assert_allclose(total, 0.0, atol=1e-10)


@given(st.integers(0, 1000))
def test_an_invertible_affine_map_changes_nothing_without_ridge(seed):
    x, labels = labelled(seed)
    rng = np.random.default_rng(seed)
    y = x @ (rng.normal(size=(4, 4)) + 3 * np.eye(4)) + rng.normal(size=4)
    assert surrogate(marginal_of(y, labels)) == pytest.approx(surrogate(marginal_of(x, labels)), rel=1e-7)


def test_it_is_zero_for_equal_classes_and_positive_else():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(50, 4))
    equal = np.concatenate([half, half, half])
    labels = np.repeat([0, 1, 2], 50)
    assert surrogate(marginal_of(equal, labels)) == pytest.approx(0.0, abs=1e-12)
    assert surrogate(marginal_of(equal + labels[:, None], labels)) > 0.1


def test_classes_of_fewer_users_than_dimensions_need_a_ridge_and_get_a_number():
    x, labels = labelled(0, users=7, dim=5)
    with pytest.raises(np.linalg.LinAlgError):
        surrogate(marginal_of(x, labels))
    assert np.isfinite(surrogate(marginal_of(x, labels), ridge=0.1))


def test_one_class_alone_tells_nothing():
    x, labels = labelled(0)
    only = marginal_of(x, np.zeros_like(labels))
    assert surrogate(only) == 0.0
    assert not surrogate_gradient(only)[0].any()
