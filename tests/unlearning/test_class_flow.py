"""The flow lowers what near neighbours tell, stops at chance, and does not care in what portions it looks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from attrcloak import EmbeddingTable, Ids, UserAttributes
from attrcloak.attackers import KNNAttacker
from attrcloak.errors import InvalidSettings
from attrcloak.moments.cell_key import CellKey
from attrcloak.moments.cell_moments import cell_moments
from attrcloak.unlearning import CalibratedFlow, class_flow, run
from attrcloak.unlearning.chance_goals import mean_goals
from attrcloak.unlearning.class_energies import ClassEnergies
from attrcloak.unlearning.class_flow import _WIDTH, ClassFlow
from attrcloak.unlearning.product_flow import ProductFlow

KEY = b"0123456789abcdef0123456789abcdef"


def rings(users=600, dim=8, seed=0):
    """Two classes with one mean and nearly one covariance: what tells them apart are their neighbourhoods."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, users)
    centres = rng.normal(size=(12, dim)) * 2.5
    mixture = np.where(codes == 0, rng.integers(0, 6, users), rng.integers(6, 12, users))
    x = centres[mixture] + rng.normal(size=(users, dim))
    for k in range(2):
        x[codes == k] -= x[codes == k].mean(axis=0)
    return x, codes[:, None].astype(np.int32), rng.permutation(codes)[:, None].astype(np.int32)


def knn_accuracy(x, codes, seed=0):
    known = np.random.default_rng(seed).random(len(x)) < 0.7
    scores = KNNAttacker().fit_predict(x[known], codes[known, 0], x[~known], 2, 0)
    right = scores.argmax(axis=1) == codes[~known, 0]
    return np.mean([right[codes[~known, 0] == k].mean() for k in range(2)])


def flown(x, codes, drawn, rounds):
    flow = ClassFlow(codes, drawn)
    for _ in range(rounds):
        x = x + flow.steps(x)
    return x


def test_neighbours_tell_and_after_the_flow_they_do_not():
    x, codes, drawn = rings()
    assert knn_accuracy(x, codes) > 0.85
    after = np.mean([knn_accuracy(flown(x, codes, drawn, 40), codes, seed) for seed in range(3)])
    assert abs(after - 0.5) < 0.06


def test_classes_that_are_chance_already_hardly_move():
    rng = np.random.default_rng(2)
    x, _, drawn = rings()
    codes = rng.permutation(drawn)
    leaky, true, _ = rings()

    def moved(vectors, labels):
        return ((flown(vectors, labels, drawn, 20) - vectors) ** 2).sum()

    assert moved(x, codes) < 0.2 * moved(leaky, true)


def split_kernel(z):
    """(n, n) low orders and high of the kernel, written out."""
    q = z.shape[1]
    product = z @ z.T / (q * _WIDTH)
    middle = np.exp(-(z**2).sum(axis=1) / (2 * q * _WIDTH))
    low = np.outer(middle, middle) * (1 + product + product**2 / 2 + product**3 / 6)
    return low, np.exp(-((z[:, None] - z[None]) ** 2).sum(axis=2) / (2 * q * _WIDTH)) - low


def spied_energies(x, codes, drawn):
    found = {}

    class Spy(ClassEnergies):
        def in_deviations(self):
            found["energies"], found["deviations"] = self.unbiased(), super().in_deviations()
            return found["deviations"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_flow, "ClassEnergies", Spy)
        ClassFlow(codes, drawn).steps(x)
    return found


def test_energy_is_the_unbiased_mmd_of_a_class_and_everybody_in_low_orders_and_in_high():
    x, codes, drawn = rings(users=60)
    energies = spied_energies(x, codes, drawn)["energies"]
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    z *= np.sqrt(2 / (1 + (z**2).mean(axis=1, keepdims=True)))
    for part, kernel in enumerate(split_kernel(z)):
        np.fill_diagonal(kernel, 0)
        everybody = kernel.sum() / (60 * 59)
        for k in range(2):
            inside = codes[:, 0] == k
            n = inside.sum()
            within = kernel[np.ix_(inside, inside)].sum() / (n * (n - 1))
            across = kernel[inside].sum() / (n * 59)
            energy = n * (within - 2 * across + everybody)
            np.testing.assert_allclose(energies[k, part], energy, rtol=1e-3, atol=1e-4)


def test_energies_of_drawn_classes_are_0_and_deviate_by_one():
    x, codes, drawn = rings(users=300)
    found = [spied_energies(x, np.random.default_rng(n).permutation(codes), drawn)["deviations"][0] for n in range(200)]
    np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=0.25)
    np.testing.assert_allclose(np.std(found, axis=0), 1, atol=0.25)


def test_steps_go_down_the_slope_of_the_witness():
    """Against finite differences of the witness of both kernels at the speeds of the round."""
    x, codes, drawn = rings(users=40, dim=3)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    flow = ClassFlow(codes, drawn)
    flow.steps(x)
    speeds = np.array([[1.0, 0.5], [0.25, 1.0]])
    drift = flow._round(z.astype(np.float32), speeds, map)

    def climb(user, at):
        moved = np.vstack([z, at])
        kernels = [kernel[-1, :-1] for kernel in split_kernel(moved)]
        mine = codes[user, 0]
        total = 0.0
        for part, kernel in enumerate(kernels):
            pull = flow._pull[mine].astype(np.float64).copy()
            pull[user] = 0  # no pair with itself
            total += class_flow._RATES[part] * speeds[mine, part] * pull @ kernel
        return total

    for user in range(5):
        slope = np.array([(climb(user, z[user] + h) - climb(user, z[user] - h)) / 2e-4 for h in 1e-4 * np.eye(3)])
        density = np.exp(-((z - z[user]) ** 2).sum(axis=1) / (2 * 3 * _WIDTH)).sum() - 1
        np.testing.assert_allclose(drift[user], -slope * 3 * _WIDTH / density, rtol=1e-2, atol=1e-4)


def test_what_is_above_chance_in_low_orders_does_not_make_up_for_less_in_high():
    """Orders come to rest each by itself: a mean that leaks, among users whose neighbourhoods are chance."""
    rng = np.random.default_rng(4)
    x, codes = rng.normal(size=(800, 8)), rng.integers(0, 2, (800, 1)).astype(np.int32)
    x[codes[:, 0] == 0, 0] += 0.5
    drawn = rng.permutation(codes)
    before, after = (spied_energies(at, codes, drawn)["deviations"] for at in (x, flown(x, codes, drawn, 30)))
    assert before[0, 0] > 5
    assert np.abs(after).max() < 1


def test_portions_of_rows_change_nothing(monkeypatch):
    x, codes, drawn = rings(users=100)
    whole = ClassFlow(codes, drawn).steps(x)
    monkeypatch.setattr(class_flow, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(ClassFlow(codes, drawn).steps(x), whole, atol=1e-4)


def test_portions_side_by_side_change_no_bit(monkeypatch):
    monkeypatch.setattr(class_flow, "ROWS_AT_ONCE", 7)
    x, codes, drawn = rings(users=300)
    alone = ClassFlow(codes, drawn).steps(x)
    with ThreadPoolExecutor(4) as pool:
        threads = set()

        def over(function, blocks):
            return pool.map(lambda block: (threads.add(threading.get_ident()), function(block))[1], blocks)

        np.testing.assert_array_equal(ClassFlow(codes, drawn).steps(x, over), alone)
    assert len(threads) > 1


@pytest.mark.parametrize(
    "x", [np.zeros((5, 3)), np.ones((1, 3)), np.empty((0, 3)), np.array([[0.0, 1], [0, 1], [1, 1], [1e6, 1]])]
)
def test_tables_with_nothing_to_compare_stay_finite(x):
    codes = np.arange(len(x), dtype=np.int32)[:, None] % 2
    steps = ClassFlow(codes, codes[::-1]).steps(x)
    assert np.isfinite(steps).all()
    assert steps.shape == x.shape
    assert not steps[:, (x == x[:1]).all(axis=0)].any()


def test_users_far_out_stay_finite_and_do_not_pull_the_others():
    x, codes, drawn = rings()
    alone = flown(np.vstack([x, np.full((1, 8), 1e4)]), np.vstack([codes, [[0]]]), np.vstack([drawn, [[0]]]), 2)
    assert np.isfinite(alone).all()


def test_users_without_a_class_are_not_pulled():
    x, codes, drawn = rings(users=80)
    codes, drawn = np.hstack([codes, codes]), np.hstack([drawn, drawn])
    codes[:10], drawn[:10] = -1, -1
    steps = ClassFlow(codes, drawn).steps(x)
    assert not steps[:10].any()
    assert steps[10:].any(axis=1).all()


def test_a_class_of_one_user_has_no_energy():
    members = np.array([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=np.float32)
    energies = ClassEnergies(members, np.array([0, 0]), 1)
    energies.add(energies.of_rows(slice(0, 4), [np.diag(np.arange(1, 5)).astype(np.float32) + 0.5]))
    assert not energies.unbiased()[0].any()
    assert energies.unbiased()[1].all()
    assert np.isfinite(energies.in_deviations()).all()


def test_classes_of_single_users_move_nobody():
    x, _, _ = rings(users=50)
    codes = np.full((50, 1), -1, dtype=np.int32)
    codes[:5, 0] = range(5)
    flow = ClassFlow(codes, codes[::-1])
    for _ in range(3):
        np.testing.assert_array_equal(flow.steps(x), 0)


def test_that_some_classes_are_unknown_is_no_leak():
    rng = np.random.default_rng(6)
    x, known = rng.normal(size=(600, 8)), np.arange(600) % 2 == 0
    x[known] += 1.5
    found = []
    for n in range(100):
        codes = np.full((600, 1), -1, dtype=np.int32)
        codes[known, 0] = np.random.default_rng(n).integers(0, 2, 300)
        found.append(spied_energies(x, codes, codes)["deviations"][0])
    np.testing.assert_allclose(np.mean(found, axis=0), 0, atol=0.3)
    np.testing.assert_allclose(np.std(found, axis=0), 1, atol=0.3)


def test_without_classes_nobody_moves():
    x, codes, _ = rings(users=30)
    nobody = np.full_like(codes, -1)
    assert not ClassFlow(nobody, nobody).steps(x).any()


def test_vectors_without_a_direction_stay_where_directions_are_all():
    x, codes, _ = rings()
    x[:20] = 0
    ids = np.arange(len(x))
    people = UserAttributes.from_values(ids, gender=["FM"[c] for c in codes[:, 0]])
    moved = run(CalibratedFlow(), EmbeddingTable(Ids(ids), x, scoring="dot"), people, key=KEY).table.vectors
    assert not moved[:20].any()
    assert np.linalg.norm(moved[20:], axis=1) == pytest.approx(np.linalg.norm(moved[20]), rel=1e-6)


def test_the_method_flows_where_all_asked_and_not_where_others_show_their_class():
    x, codes, _ = rings()
    ids = np.arange(len(x))
    table = EmbeddingTable(Ids(ids), x)
    people = UserAttributes.from_values(ids, gender=["FM"[c] for c in codes[:, 0]])
    short, long = (run(CalibratedFlow(rounds=n), table, people, key=KEY).table.vectors for n in (1, 40))
    assert np.abs(short - long).max() > 0.01
    assert abs(knn_accuracy(long, codes) - 0.5) < 0.1 < knn_accuracy(x, codes) - 0.5
    some = people.mark({"gender": ids[:300]})
    one, other = (run(CalibratedFlow(rounds=n), table, some, key=KEY).table.vectors for n in (1, 40))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("settings", [{"slices": 0}, {"rounds": 0}, {"lists": 1}])
def test_settings_that_leave_nothing_to_do_are_refused(settings):
    with pytest.raises(InvalidSettings, match="calibrated-flow"):
        CalibratedFlow(**settings)


@pytest.mark.slow
def test_steps_that_overshoot_are_halved_before_they_grow():
    """Coordinates that vary alike and on their own: a step of full speed goes two and a half times too far here."""
    rng = np.random.default_rng(3000)
    gender, age = rng.choice(["F", "M"], 3000, p=[0.4, 0.6]), rng.choice(["young", "mid", "old"], 3000)
    x = rng.normal(size=(3000, 32)).astype(np.float32)
    x[gender == "F", :3] += 0.8
    x[age == "old", 3:6] *= 1.5
    ids = Ids(np.array([f"u{i}" for i in range(3000)]))
    people = UserAttributes.from_values(ids, gender=gender, age=age)
    result = run(CalibratedFlow(rounds=10), EmbeddingTable(ids, x), people, key=bytes([7]) * 32)
    assert result.objective_after < 0.6 * result.objective_before
    assert result.relative_move < 0.03


def test_a_round_that_goes_back_on_the_one_before_halves_all_that_follow():
    flow = ClassFlow(np.zeros((4, 1), np.int32), np.zeros((4, 1), np.int32))
    ahead = np.eye(4, 3, dtype=np.float32)
    lengths = [float(np.abs(flow._no_farther(steps)).max()) for steps in (ahead, 2 * ahead, -ahead, -ahead, ahead)]
    assert lengths == [1, 2, 0.5, 0.5, 0.25]
    # Users who come and go, and a round in which nobody moved, are nothing to go by.
    assert float(np.abs(flow._no_farther(-np.eye(4, 2, dtype=np.float32))).max()) == 0.25
    assert not flow._no_farther(np.zeros((4, 2), np.float32)).any()
    assert float(np.abs(flow._no_farther(np.eye(4, 2, dtype=np.float32))).max()) == 0.25


def test_users_far_out_go_as_far_as_their_place_under_the_kernel_does():
    """Steps are found among users who are drawn in; where a user is drawn in to half, a step there is twice as long."""
    x, codes, drawn = rings()
    x[:30] *= 4
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    factors = np.sqrt(2 / (1 + (z**2).mean(axis=1, keepdims=True)))
    assert factors.min() < 0.5
    flow, twin = ClassFlow(codes, drawn), ClassFlow(codes, drawn)
    inside = (z * factors).astype(np.float32)
    twin._round(inside, np.zeros((2, 2)), map)
    there = twin._round(inside, twin._speeds, map)
    small = np.linalg.norm(there / factors, axis=1) < 0.25 * np.sqrt(x.shape[1])  # no longer than a step may be
    assert small[:30].any()
    np.testing.assert_allclose(flow.steps(x)[small], (there / factors * x.std(axis=0))[small], rtol=1e-3, atol=1e-6)


def test_users_of_one_length_are_looked_at_where_they_are(monkeypatch):
    x, codes, drawn = rings()
    x[:30] *= 4  # in standardised coordinates, where the kernel looks, lengths differ whatever they are in the table
    z = ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32)
    flow, twin = (ClassFlow(codes, drawn, lengths_differ=False) for _ in range(2))
    twin._round(z, np.zeros((2, 2)), map)
    there = twin._round(z, twin._speeds, map)
    small = np.linalg.norm(there, axis=1) < 0.25 * np.sqrt(x.shape[1])
    np.testing.assert_allclose(flow.steps(x)[small], (there * x.std(axis=0))[small], rtol=1e-3, atol=1e-6)

    asked = []
    monkeypatch.setattr(
        ClassFlow, "steps", lambda flow, at, _: (asked.append(flow.lengths_differ), np.zeros_like(at))[1]
    )
    ids = np.arange(len(x))
    people = UserAttributes.from_values(ids, gender=["FM"[c] for c in codes[:, 0]])
    for scoring in ("dot", "unknown"):
        run(CalibratedFlow(rounds=1), EmbeddingTable(Ids(ids), x, scoring=scoring), people, key=KEY)
    assert asked == [False, True]


def test_class_means_end_where_chance_has_them_among_users_as_they_vary_by_now():
    rng = np.random.default_rng(7)
    gender = rng.integers(0, 2, 1500)
    x = rng.normal(size=(1500, 6)) * (3, 2, 1, 1, 1, 1)
    x[:, 0] *= np.where(gender == 1, 1.8, 0.6)  # what is to be evened out, and changes how users vary
    x += np.where(gender[:, None] == 1, 0.5, -0.5)
    people = UserAttributes.from_values(Ids(np.arange(1500)), gender=gender)
    moved = run(CalibratedFlow(exchange=0.0), EmbeddingTable(people.ids, x), people, key=KEY).table.vectors

    def classes(vectors):
        _, codes = np.unique(gender, return_inverse=True)
        key = CellKey(("gender",), (("0", "1"),), np.array([[0], [1]], dtype=np.int32))
        return cell_moments(vectors, codes.astype(np.int32), key).marginal(0)

    own, now = classes(x), classes(moved)
    spread = np.sqrt(np.diag(now.within))
    assert (np.diag(now.within) / np.diag(own.within))[0] < 0.9
    later, first = mean_goals(own, now).mean, mean_goals(own).mean
    off = [np.abs((now.mean - goal) / spread).max() for goal in (later, first)]
    assert off[0] < 0.3 * off[1]


def test_chance_in_products_is_measured_anew_every_five_rounds(monkeypatch):
    seen = []

    def spied(flow, vectors, plain=ProductFlow.look_again):
        seen.append(vectors.copy())
        plain(flow, vectors)

    monkeypatch.setattr(ProductFlow, "look_again", spied)
    x, codes, _ = rings(users=300)
    people = UserAttributes.from_values(Ids(np.arange(300)), ring=codes[:, 0])
    run(CalibratedFlow(rounds=10), EmbeddingTable(people.ids, x), people, key=KEY)
    assert len(seen) == 3  # of ten rounds of products alone and ten of both
    assert len({vectors.tobytes() for vectors in seen}) == 3
