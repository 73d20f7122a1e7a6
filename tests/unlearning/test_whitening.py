"""Whitened coordinates are uncorrelated, of variance 1, and lead back."""

import numpy as np
import pytest

from attrcloak.unlearning.whitening import Whitening, inward_factors


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3


def test_coordinates_are_white_and_steps_lead_back(x):
    whitening = Whitening.of(x)
    w = whitening.whitened(x)
    np.testing.assert_allclose(w.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.cov(w.T, bias=True), np.eye(6), atol=1e-9)
    np.testing.assert_allclose(whitening.coloured(w), x - x.mean(axis=0), atol=1e-9)


def test_widest_directions_come_first(x):
    wide, all_ = Whitening.of(x).widest(2), Whitening.of(x)
    held = [float((each.back**2).sum()) for each in (wide, all_)]
    assert wide.whitened(x).shape == (500, 2)
    assert 2 / 6 < held[0] / held[1] < 1
    assert (np.diff((all_.back**2).sum(axis=1)) <= 0).all()


def test_directions_that_do_not_vary_are_left_out(x):
    flat = np.column_stack([x, x[:, 0], np.full(500, 7.0)])
    assert Whitening.of(flat).whitened(flat).shape == (500, 6)
    assert Whitening.of(np.zeros((5, 3))).whitened(np.zeros((5, 3))).shape == (5, 0)
    assert Whitening.of(np.zeros((5, 0))).coloured(np.zeros((5, 0))).shape == (5, 0)


def test_users_far_out_are_drawn_in_and_those_of_usual_length_stay():
    z = np.array([[1.0, -1.0, 1.0, 1.0], [10.0, 0.0, 0.0, 0.0], [1e6, 1e6, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    drawn = z * inward_factors(z)
    np.testing.assert_allclose(drawn[0], z[0])
    lengths = np.linalg.norm(drawn, axis=1) / 2  # the usual length in four dimensions
    np.testing.assert_allclose(lengths[1:], [5 * np.sqrt(2 / 26), np.sqrt(2), 0], rtol=1e-6)
