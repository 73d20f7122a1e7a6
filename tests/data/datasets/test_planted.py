import numpy as np
import pytest

from attrcloak.data.datasets.planted import planted_interactions, planted_leak


@pytest.mark.parametrize("kind", ["linear", "quadratic", "higher-order"])
def test_the_leak_is_where_it_was_planted(kind):
    table, people = planted_leak(kind, users=4000, dim=4)
    a, b = (table.vectors[people["group"].codes == code] for code in (0, 1))
    assert (abs(b.mean(0) - a.mean(0))[0] > 1) == (kind == "linear")
    assert (b.var(0)[0] > 4 * a.var(0)[0]) == (kind == "quadratic")
    assert (abs(np.sign(b[:, :3].prod(1)).mean() - np.sign(a[:, :3].prod(1)).mean()) > 1) == (kind == "higher-order")


def test_interactions_cover_every_user():
    table, _ = planted_leak(users=50)
    assert np.bincount(planted_interactions(table, each=5).user_rows).tolist() == [5] * 50
