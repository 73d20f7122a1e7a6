"""U2U-R and D2D-R: their gradients are autograd's, and on real data they fail the way the published figures do."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from attrcloak.attackers import classifiers
from attrcloak.attackers.network import train_network
from attrcloak.auditing import SOUND, audit
from attrcloak.auditing.protocols import rotations
from attrcloak.data import EmbeddingTable, Ids, Interactions, UserAttributes
from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.recommenders import BPRLoss
from attrcloak.unlearning import D2DR, U2UR, run
from attrcloak.unlearning.method import Rows
from attrcloak.unlearning.pot_au import RankingHinge, add_mmd_gradient, add_u2u_gradient, deal, mmd_gradient


def planted(users: int = 300, dim: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(users) % 3 > 0).astype(int)
    town = rng.integers(0, 3, users)
    x = rng.normal(size=(users, dim)) + 1.5 * labels[:, None] * np.eye(dim)[0] + 0.5 * town[:, None] * np.eye(dim)[1]
    people = UserAttributes.from_values(np.arange(users), a=labels.tolist(), b=town.tolist())
    return EmbeddingTable(Ids.range(users), x), people


def apart(vectors, codes) -> float:
    """Distance of the means of the first two classes, in mean standard deviations."""
    return float(np.linalg.norm(vectors[codes == 0].mean(axis=0) - vectors[codes == 1].mean(axis=0)) / vectors.std())


# U2U-R


def test_the_gradient_of_u2u_is_that_of_all_pairs_and_of_the_form_that_is_linear_in_users():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(40, 3)), rng.integers(0, 4, 40)
    members = [np.flatnonzero(codes == k) for k in range(5)]
    slope = np.ones_like(x)
    add_u2u_gradient(slope, x, members)

    rows = torch.tensor(x, requires_grad=True)
    differ = torch.tensor(codes[:, None] < codes[None, :]) | torch.tensor(codes[:, None] > codes[None, :])
    pairs = (((rows[:, None] - rows[None]) ** 2).sum(dim=2) * differ).sum() / 2
    pairs.backward()
    np.testing.assert_allclose(slope - 1, rows.grad.numpy(), rtol=1e-9, atol=1e-9)

    def within(part):
        return len(part) * (part**2).sum() - (part.sum(axis=0) ** 2).sum()

    assert within(x) - sum(within(x[codes == k]) for k in range(4)) == pytest.approx(pairs.item())


def test_u2u_of_two_users_lets_them_meet():
    people = UserAttributes.from_values([0, 1], a=["x", "y"])
    table = EmbeddingTable(Ids.range(2), np.array([[0.0, 1.0], [2.0, 5.0]]))
    after = run(U2UR(steps=2000), table, people).table.vectors
    np.testing.assert_allclose(after, [[1.0, 3.0], [1.0, 3.0]], atol=1e-3)


def test_u2u_shrinks_each_class_into_a_cloud_of_its_own():
    """All of it tiny, so that an unscaled attacker overlooks it; but classes of one size now have different ones."""
    table, people = planted()
    codes = people["a"].codes
    after = run(U2UR(), table, people.select(["a"])).table.vectors
    before, sizes = ([x[codes == k].var(axis=0).sum() for k in (0, 1)] for x in (table.vectors, after))
    assert max(before) < 1.1 * min(before)
    assert max(sizes) < 0.01 * min(before)
    assert max(sizes) > 1.25 * min(sizes)


# D2D-R


@pytest.mark.parametrize(
    ("users", "first", "kernels", "factor"), [(40, 15, 5, 2.0), (300, 130, 5, 2.0), (300, 130, 3, 3.0), (50, 1, 4, 1.5)]
)
def test_the_gradient_of_mmd_is_autograds_with_the_widths_held(users, first, kernels, factor):
    """More users than rows in a chunk, far from the origin; agreement to single precision."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(users, 5)) + 1e3
    x[:first] += 0.7
    rows = torch.tensor(x, requires_grad=True)
    distance = ((rows[:, None] - rows[None]) ** 2).sum(dim=2)
    width = (distance.sum() / (users**2 - users)).detach()
    kernel = sum(torch.exp(-distance / (width * factor ** (m - kernels // 2))) for m in range(kernels))
    mmd = kernel[:first, :first].mean() + kernel[first:, first:].mean() - 2 * kernel[:first, first:].mean()
    mmd.backward()
    expected = rows.grad.numpy()
    found = mmd_gradient(x, first, kernels=kernels, factor=factor)
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


def test_the_gradient_of_mmd_is_zero_between_equal_classes_and_for_one_vector():
    x = np.random.default_rng(0).normal(size=(30, 3))
    np.testing.assert_allclose(mmd_gradient(np.tile(x, (2, 1)), 30, kernels=5, factor=2.0), 0, atol=1e-7)
    np.testing.assert_array_equal(mmd_gradient(np.ones((6, 3)), 2, kernels=5, factor=2.0), 0)


def test_a_large_pair_of_classes_is_dealt_into_blocks_and_a_small_class_is_in_all_of_them():
    large, small = np.arange(1000), np.arange(1000, 1010)
    blocks = deal(large, small, 256, np.random.default_rng(0))
    assert len(blocks) == 4
    np.testing.assert_array_equal(np.sort(np.concatenate([one for one, _ in blocks])), large)
    for one, other in blocks:
        assert len(one) == 250
        np.testing.assert_array_equal(other, small)
    assert len(deal(large, small, 1010, np.random.default_rng(0))) == 1


@pytest.mark.parametrize("first", [200, 20])
def test_the_gradient_over_blocks_is_on_average_that_of_the_whole(first):
    """Whether a class is dealt out or, being small, is in every block."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    x[:first] += 1.0
    one, other = np.arange(first), np.arange(first, 400)
    whole, dealt = np.zeros_like(x), np.zeros_like(x)
    add_mmd_gradient(whole, x, [(one, other)], kernels=5, factor=2.0)
    for _ in range(50):
        add_mmd_gradient(dealt, x, deal(one, other, 100, rng), kernels=5, factor=2.0)
    difference = dealt / 50 - whole
    assert (difference**2).sum() < 0.05 * (whole**2).sum()


def test_blocks_change_little():
    table, people = planted(users=600)
    whole, dealt = (run(D2DR(steps=80, batch=batch), table, people, seed=1).table.vectors for batch in (600, 128))
    moved = ((whole - table.vectors) ** 2).sum()
    assert ((whole - dealt) ** 2).sum() < 0.25 * moved
    again = run(D2DR(steps=80, batch=128), table, people, seed=1).table.vectors
    np.testing.assert_array_equal(dealt, again)


def test_d2d_brings_classes_together_and_keeps_their_spread():
    table, people = planted()
    result = run(D2DR(steps=200), table, people)
    for name in ("a", "b"):
        assert apart(result.table.vectors, people[name].codes) < 0.3 * apart(table.vectors, people[name].codes)
    assert result.table.vectors.std() > 0.7 * table.vectors.std()
    assert result.objective_after < 0.3 * result.objective_before


def test_the_order_of_rows_matters_to_single_precision_only():
    table, people = planted()
    order = np.random.default_rng(1).permutation(len(table))
    straight = run(D2DR(steps=40), table, people).table.vectors[order]
    np.testing.assert_allclose(run(D2DR(steps=40), table.take(order), people).table.vectors, straight, atol=1e-3)


def test_the_anchor_is_the_first_class_unless_another_is_named():
    """In one step users of two classes that differ from the anchor have no pull on each other."""
    users = np.arange(60)
    codes = users % 3
    people = UserAttributes.from_values(users, a=codes.tolist()).mark({"a": users[users != 3]})
    x = np.random.default_rng(0).normal(size=(60, 2)) + 4.0 * codes[:, None]
    table = EmbeddingTable(Ids.range(60), x)

    def after(anchor):
        return run(D2DR(steps=1, anchor=anchor), table, people).table.vectors

    np.testing.assert_array_equal(after("first"), after(0))
    np.testing.assert_array_equal(after("largest"), after(1))  # class 0 has one user less who asked
    assert not np.array_equal(after(0), after(2))
    with pytest.raises(InvalidSettings, match="anchor is class 3, which no user of attribute 'a'"):
        after(3)


# Both


BOTH = pytest.mark.parametrize("method", [U2UR, D2DR])


@BOTH
def test_relative_steps_do_not_depend_on_scale_and_the_public_ones_move_half_a_unit_at_most(method):
    table, people = planted()
    large = EmbeddingTable(table.ids, 1024 * table.vectors)
    once = run(method(steps=30), table, people).table.vectors
    np.testing.assert_allclose(run(method(steps=30), large, people).table.vectors / 1024, once, atol=1e-6)
    public = method.paper()
    assert (public.learning_rate, public.steps, public.relative, public.regularisation) == (1e-3, 500, False, 1e-6)
    moved = run(public, large, people).table.vectors - large.vectors
    assert 0.1 < np.abs(moved).max() < 0.6


@BOTH
def test_regularisation_holds_vectors_back(method):
    table, people = planted()
    weights = {U2UR: 1e4, D2DR: 1.0}
    free, held = (
        run(method(steps=100, regularisation=weight), table, people).relative_move for weight in (0.0, weights[method])
    )
    assert held < 0.7 * free


@BOTH
def test_one_class_has_nothing_to_hide_and_stays_bit_for_bit(method):
    table, _ = planted()
    result = run(method(), table, UserAttributes.from_values(np.arange(300), a=["x"] * 300))
    np.testing.assert_array_equal(result.table.vectors, table.vectors)
    assert result.stopped == "converged"


def recommender(frozen: bool = False):
    """Vectors with the BPR loss of random interactions; with ``frozen``, the last column is a constant."""
    table, people = planted(users=60)
    rng = np.random.default_rng(5)
    seen = rng.random((60, 40)) < 0.3
    seen[0, 2:] = True  # two unseen items only
    rows, columns = np.nonzero(seen)
    train = Interactions(Ids.range(60), Ids.range(40), rows.astype(np.int32), columns.astype(np.int32))
    vectors = table.vectors.copy()
    if frozen:
        vectors[:, -1] = 1.0
    table = replace(table, vectors=vectors, frozen_columns=(3,) if frozen else ())
    items = rng.normal(size=(40, 4))
    return table, people, items, seen, BPRLoss.of(table, items, train)


def lists(vectors, items, seen, length=10):
    scores = np.where(seen, -np.inf, vectors @ items.T)
    return np.argsort(-scores, axis=1)[:, :length]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_hinge_is_the_sum_over_neighbours_of_the_list_and_its_gradient_is_right(frozen):
    table, people, items, seen, loss = recommender(frozen)
    rows = Rows(table, people.cells(), b"key", recommendation=loss)
    hinge = RankingHinge.of(rows, loss, 5, 0.05)
    moved = np.random.default_rng(0).normal(size=table.free.shape) * 0.1

    def value(user, moved):
        unseen = np.flatnonzero(~seen[user])
        order = unseen[np.argsort(-(table.vectors[user] @ items[unseen].T))][:5]
        vector = table.vectors[user].copy()
        vector[table.free_columns] += moved
        scores = items[order] @ vector
        return np.maximum(0, scores[1:] - scores[:-1] + 0.05).sum()

    gradient = hinge.gradient(moved)
    for user, column in np.ndindex(*moved.shape):
        nudge = 1e-6 * np.eye(moved.shape[1])[column]
        expected = (value(user, moved[user] + nudge) - value(user, moved[user] - nudge)) / 2e-6
        assert gradient[user, column] == pytest.approx(expected, rel=1e-4, abs=1e-5)


@BOTH
def test_keeping_the_ranking_keeps_more_of_the_lists(method):
    table, people, items, seen, loss = recommender()
    before = lists(table.vectors, items, seen)
    found = []
    for keep in ("regularise", "ranking"):
        after = run(method(steps=100, keep=keep), table, people, recommendation=loss).table.vectors
        found.append((before == lists(after, items, seen)).mean())
    assert found[1] > found[0] + 0.05


@BOTH
def test_the_scale_of_vectors_does_not_matter_to_the_ranking_if_scores_stay(method):
    table, people, items, _, loss = recommender()
    once = run(method(steps=30, keep="ranking"), table, people, recommendation=loss).table.vectors
    large = EmbeddingTable(table.ids, 64 * table.vectors)
    other = replace(loss, items=items / 64)
    scaled = run(method(steps=30, keep="ranking"), large, people, recommendation=other).table.vectors
    np.testing.assert_allclose(scaled / 64, once, atol=1e-3)


@BOTH
def test_keeping_the_ranking_needs_interactions_and_says_what_to_use_without(method):
    table, people = planted()
    with pytest.raises(NotSupported, match="without them set keep to 'regularise'"):
        run(method(keep="ranking"), table, people)


@BOTH
@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"learning_rate": 0.0},
        {"keep": "nothing"},
        {"regularisation": -1.0},
        {"ranking_weight": -1.0},
        {"ranking_length": 1},
    ],
)
def test_settings_out_of_range_are_refused(method, wrong):
    with pytest.raises(InvalidSettings):
        method(**wrong)


@pytest.mark.parametrize("wrong", [{"anchor": "last"}, {"anchor": -1}, {"kernels": 0}, {"factor": 1.0}, {"batch": 4}])
def test_settings_of_d2d_out_of_range_are_refused(wrong):
    with pytest.raises(InvalidSettings):
        D2DR(**wrong)


@pytest.mark.parametrize("method", [U2UR(steps=2), D2DR(steps=2)], ids=lambda method: method.name)
def test_six_thousand_users_take_no_matrix_of_all_pairs_and_twice_as_many_twice_the_memory(method):
    peaks = []
    for users in (6040, 12080):
        table, people = planted(users=users, dim=32)
        tracemalloc.start()
        try:
            run(method, table, people)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[0] < 6040**2  # bytes; a matrix of all pairs has four or eight a pair
    assert peaks[1] < 2.4 * peaks[0]


def test_the_gradient_of_u2u_costs_in_proportion_to_users():
    """Eight times the users, and well below the 64 times the seconds that a sum over pairs would take."""
    rng = np.random.default_rng(0)
    seconds = []
    for users in (10_000, 80_000):
        x, codes = rng.normal(size=(users, 32)), rng.integers(0, 5, users)
        members = [np.flatnonzero(codes == k) for k in range(5)]
        took = []
        for _ in range(5):
            began = time.process_time()
            add_u2u_gradient(np.zeros_like(x), x, members)
            took.append(time.process_time() - began)
        seconds.append(min(took))
    assert seconds[1] < 32 * max(seconds[0], 1e-3)


# Known truths on real data


@pytest.fixture(scope="module")
def real(shared_data):
    """ALS vectors of MovieLens-100K."""
    pytest.importorskip("implicit")
    from attrcloak.data.datasets import load
    from attrcloak.recommenders import train

    loaded = load("ml-100k", shared_data("ml-100k"))
    split = loaded.interactions.leave_one_out(0)
    return train("als", split, seed=0).users, loaded.people.align(split.train.users)


def attacked(table, people, *attackers):
    """The results on gender with 80 % of labels known, by attacker."""
    protocol = replace(SOUND, known=(0.8,), seeds=1, permutations=99, resamples=99, equations_known=())
    report = audit(table, people, attributes=["gender"], attackers=attackers, protocol=protocol, seed=0)
    return {result.attacker: result for result in report.results}


def unscaled_network(table, people) -> float:
    """Balanced accuracy on gender of the same network as the MLP attacker's, on coordinates as they come."""
    vectors, codes = table.vectors.astype(np.float32), people["gender"].codes
    right = np.zeros(len(codes), dtype=bool)
    mlp = classifiers.MLPAttacker()
    for known in rotations(codes, 0.8, 5, 0):
        network = train_network(
            vectors[known],
            codes[known],
            classifiers.weights(codes[known], 2, True),
            hidden=mlp.hidden,
            epochs=mlp.epochs,
            min_steps=mlp.min_steps,
            batch=mlp.batch,
            learning_rate=mlp.learning_rate,
            penalty=mlp.penalty,
            seed=0,
        )
        right[~known] = network.probabilities(vectors[~known]).argmax(axis=1) == codes[~known]
    return float(np.mean([right[codes == k].mean() for k in (0, 1)]))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("method", [U2UR(), U2UR.paper()])
def test_u2u_hides_gender_from_an_unscaled_network_and_hands_it_to_trees(real, method):
    """As published (Wu et al. 2025, Table IV): XGBoost reads almost everybody, the MLP hardly anybody."""
    table, people = real
    assert unscaled_network(table, people) > 0.65
    before = attacked(table, people, "xgboost")["xgboost"].balanced_accuracy
    after = run(method, table, people).table
    found = attacked(after, people, "xgboost", "mlp")
    assert before < 0.75
    assert found["xgboost"].balanced_accuracy > 0.9
    assert found["mlp"].balanced_accuracy > 0.6  # standardised, so that what is left is read at full size
    assert abs(unscaled_network(after, people) - 0.5) < 0.03


@pytest.mark.data
@pytest.mark.slow
def test_d2d_puts_attackers_below_chance_and_relabelling_turns_that_into_a_leak(real):
    table, people = real
    found = attacked(run(D2DR(), table, people).table, people, "mlp")["mlp"]
    assert found.balanced_accuracy < 0.45
    assert found.adaptive_balanced_accuracy > 0.54
