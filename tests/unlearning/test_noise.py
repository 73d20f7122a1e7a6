"""The noise control: of the stated size, on those who asked only, repeatable."""

import numpy as np
import pytest

from attrcloak.data import EmbeddingTable, Ids, UserAttributes
from attrcloak.errors import InvalidSettings
from attrcloak.unlearning import GaussianNoise, run

USERS = 4000


def example(dtype=np.float64):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(USERS, 3)) * [1.0, 10.0, 0.0] + [0.0, 0.0, 0.7]
    people = UserAttributes.from_values(np.arange(USERS), a=["x", "y"] * (USERS // 2))
    return EmbeddingTable(Ids.range(USERS), x.astype(dtype)), people.mark({"a": np.arange(USERS // 2)})


@pytest.mark.parametrize("scale", [0.25, 2.0])
def test_noise_is_a_share_of_each_columns_own_spread(scale):
    table, people = example()
    moved = run(GaussianNoise(scale=scale), table, people).table.vectors
    added = (moved - table.vectors)[: USERS // 2]
    expected = scale * table.vectors[: USERS // 2].std(axis=0)
    np.testing.assert_allclose(added.std(axis=0), expected, rtol=0.05, atol=1e-12)
    assert np.abs(added.mean(axis=0) / np.maximum(expected, 1e-9))[:2].max() < 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_column_and_users_who_did_not_ask_stay_bit_for_bit(dtype):
    table, people = example(dtype)
    moved = run(GaussianNoise(), table, people).table.vectors
    np.testing.assert_array_equal(moved[USERS // 2 :], table.vectors[USERS // 2 :])
    np.testing.assert_array_equal(moved[:, 2], table.vectors[:, 2])


def test_no_noise_at_scale_zero_and_the_seed_decides():
    table, people = example()
    np.testing.assert_array_equal(run(GaussianNoise(scale=0.0), table, people).table.vectors, table.vectors)
    first, again, other = (run(GaussianNoise(), table, people, seed=seed).table.vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_negative_scale_is_refused():
    with pytest.raises(InvalidSettings, match=r"scale is -1"):
        GaussianNoise(scale=-1.0)
