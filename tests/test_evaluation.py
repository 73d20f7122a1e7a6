"""Utility: equal to a naive loop and to scikit-learn, ties defined, three protocols, intervals, classes."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.interactions import Interactions, Split
from attrcloak.errors import InvalidInput, InvalidSettings
from attrcloak.evaluation import METRICS, evaluate, evaluate_held_out, paired_ratio


def split_of(users: int = 40, items: int = 30, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    pairs = [(u, i) for u in range(users) for i in rng.choice(items, size=rng.integers(1, items // 2), replace=False)]
    order = rng.permutation(len(pairs))
    table = np.array(pairs)[order]
    return Interactions.from_ids(table[:, 0], table[:, 1], np.arange(len(table))).leave_one_out(seed)


def scores_of(split: Split, seed: int, levels: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (len(split.train.users), len(split.train.items))
    return rng.normal(size=shape) if levels is None else rng.integers(0, levels, size=shape).astype(float)


def naive_held_out(scores: np.ndarray, split: Split, cutoff: int) -> tuple[list[float], list[float]]:
    seen = split.train.matrix.toarray() > 0
    ndcg, hit = [], []
    for user, target in enumerate(split.test_items.tolist()):
        if target < 0:
            continue
        rivals = [i for i in range(scores.shape[1]) if not seen[user, i] and i != split.validation_items[user]]
        ranking = sorted(rivals, key=lambda i: (-scores[user, i], i == target))
        place = ranking.index(target)
        ndcg.append(1 / math.log2(place + 2) if place < cutoff else 0.0)
        hit.append(1.0 if place < cutoff else 0.0)
    return ndcg, hit


@given(st.integers(0, 10_000), st.sampled_from([None, 3]))
def test_full_ranking_equals_a_naive_loop(seed: int, levels: int | None) -> None:
    split = split_of(seed=seed % 7)
    scores = scores_of(split, seed, levels)
    report = evaluate(lambda rows: scores[rows], split)
    for cutoff in (5, 10):
        ndcg, hit = naive_held_out(scores, split, cutoff)
        np.testing.assert_allclose(report.per_user[f"ndcg@{cutoff}"], ndcg)
        np.testing.assert_allclose(report.per_user[f"hr@{cutoff}"], hit)


def test_full_ranking_equals_sklearn() -> None:
    from sklearn.metrics import ndcg_score

    split = split_of()
    scores = scores_of(split, 1)
    report = evaluate(lambda rows: scores[rows], split)
    for position, user in enumerate(report.rows):
        keep = split.train.matrix[[user]].toarray()[0] == 0
        if split.validation_items[user] >= 0:
            keep[split.validation_items[user]] = False
        truth = (np.arange(scores.shape[1]) == split.test_items[user])[keep]
        expected = ndcg_score([truth], [scores[user][keep]], k=10)
        assert report.per_user["ndcg@10"][position] == pytest.approx(expected)


def test_paper_protocol_equals_sklearn_and_a_naive_loop() -> None:
    from sklearn.metrics import ndcg_score

    split = split_of()
    scores = scores_of(split, 2)
    report = evaluate(lambda rows: scores[rows], split, protocol="paper")
    relevant = split.train.matrix.toarray() > 0
    for position, user in enumerate(report.rows):
        expected = ndcg_score([relevant[user]], [scores[user]], k=10)
        assert report.per_user["ndcg@10"][position] == pytest.approx(expected)
        top = np.argsort(-scores[user])[:5]
        hits = relevant[user][top].sum() / min(5, relevant[user].sum())
        assert report.per_user["hr@5"][position] == pytest.approx(hits)


def test_perfect_scores_are_one_in_every_protocol() -> None:
    split = split_of()
    held_out = np.zeros((len(split.train.users), len(split.train.items)))
    rows = np.flatnonzero(split.test_items >= 0)
    held_out[rows, split.test_items[rows]] = 1
    fit = split.train.matrix.toarray()
    assert evaluate(lambda rows: held_out[rows], split).values["ndcg@5"] == 1
    assert evaluate(lambda rows: held_out[rows], split, protocol="sampled-99").values["hr@5"] == 1
    assert set(evaluate(lambda rows: fit[rows], split, protocol="paper").values.values()) == {1.0}


@pytest.mark.parametrize("protocol", ["leave-one-out", "paper"])
def test_equal_scores_earn_nothing(protocol: str) -> None:
    # 30 items, at most 14 seen: at least 10 items that are not relevant stand ahead.
    split = split_of()
    report = evaluate(lambda rows: np.zeros((len(rows), 30)), split, protocol=protocol)  # type: ignore[arg-type]
    assert set(report.values.values()) == {0.0}


def test_scores_are_not_changed_and_large_tables_go_in_chunks() -> None:
    split = split_of(users=1100, items=12)
    scores = scores_of(split, 3)
    copy, sizes, calls = scores.copy(), [], []

    def score(rows: np.ndarray) -> np.ndarray:
        sizes.append(len(rows))
        return scores[rows[0] : rows[-1] + 1][rows - rows[0]]

    evaluate(score, split, progress=lambda stage, done, total: calls.append((stage, done, total)))
    np.testing.assert_array_equal(scores, copy)
    assert max(sizes) <= 512
    assert calls[-1] == ("evaluating", sum(sizes), sum(sizes))


def test_users_without_a_test_item_are_skipped() -> None:
    interactions = Interactions.from_ids([1, 1, 1, 1, 2], [1, 2, 3, 4, 1], np.arange(5))
    split = interactions.leave_one_out(0)
    report = evaluate(lambda rows: np.zeros((len(rows), 4)), split)
    assert report.users == 1
    assert report.rows.tolist() == [0]


def test_sampled_negatives_are_unseen_and_ninety_nine() -> None:
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(30), 20)
    items = np.concatenate([rng.choice(400, size=20, replace=False) for _ in range(30)])
    split = Interactions.from_ids(users, items, np.arange(600)).leave_one_out(0)
    # Seen items score highest: were one of them ever drawn, it would stand ahead of the target.
    scores = split.train.matrix.toarray() * 10.0
    rows = np.arange(30)
    scores[rows, split.validation_items] = 10
    scores[rows, split.test_items] = 1
    assert evaluate(lambda r: scores[r], split, protocol="sampled-99").values["hr@5"] == 1
    # A random scorer puts the item among the first ten of a hundred one time in ten.
    hits = [
        evaluate(lambda r, s=s: scores_of(split, s)[r], split, protocol="sampled-99", seed=s).values["hr@10"]
        for s in range(60)
    ]
    assert abs(np.mean(hits) - 0.10) < 0.025


def test_sampling_repeats_under_a_seed() -> None:
    rng = np.random.default_rng(0)
    split = Interactions.from_ids(np.repeat(np.arange(40), 10), rng.permutation(400), np.arange(400)).leave_one_out(0)
    scores = scores_of(split, 1)
    run = [evaluate(lambda r: scores[r], split, protocol="sampled-99", seed=s).per_user["ndcg@10"] for s in (4, 4, 5)]
    np.testing.assert_array_equal(run[0], run[1])
    assert not np.array_equal(run[0], run[2])


def test_interval_covers_the_mean_over_users() -> None:
    # Hits of random scores: of 300 draws about 95 % of the intervals hold the true rate.
    covered = 0
    split = split_of(users=150, items=30)
    free = (split.train.matrix.toarray() == 0).sum(axis=1) - (split.validation_items >= 0)
    rate = np.minimum(1, 10 / free[split.test_items >= 0]).mean()
    for seed in range(200):
        scores = scores_of(split, seed)
        low, high = evaluate(lambda r, scores=scores: scores[r], split).ci["hr@10"]
        covered += low <= rate <= high
    assert covered >= 180


def test_table_per_class_is_joined_by_id() -> None:
    split = split_of()
    scores = scores_of(split, 5)
    people = UserAttributes.from_values(
        split.train.users.values[::-1], gender=["F", "M", None, "M"] * (len(split.train.users) // 4)
    )
    report = evaluate(lambda r: scores[r], split, people=people)
    codes = people.align(split.train.users)["gender"].codes[report.rows]
    for code, label in enumerate(("F", "M")):
        cell = report.per_class["gender"][label]
        assert cell["users"] == (codes == code).sum()
        assert cell["hr@10"] == pytest.approx(report.per_user["hr@10"][codes == code].mean())
        assert cell["ci"]["hr@10"][0] <= cell["hr@10"] <= cell["ci"]["hr@10"][1]


def test_paired_ratio_is_tight_for_equal_reports_and_holds_the_true_ratio() -> None:
    split = split_of(users=300)
    scores = scores_of(split, 6)
    before = evaluate(lambda r: scores[r], split)
    assert paired_ratio(before, before) == (1.0, 1.0, 1.0)
    noisy = scores + np.random.default_rng(1).normal(size=scores.shape)
    after = evaluate(lambda r: noisy[r], split)
    ratio, low, high = after.paired_ratio(before, "hr@10")
    assert low < ratio < high
    assert ratio == pytest.approx(after.values["hr@10"] / before.values["hr@10"])


def test_paired_ratio_refuses_what_cannot_be_paired() -> None:
    split, other = split_of(), split_of(users=30)
    scores = scores_of(split, 6)
    full = evaluate(lambda r: scores[r], split)
    with pytest.raises(InvalidInput, match="compare within one protocol"):
        paired_ratio(full, evaluate(lambda r: scores[r], split, protocol="paper"))
    with pytest.raises(InvalidInput, match="not the same ones"):
        paired_ratio(full, evaluate(lambda r: scores[r], other))
    with pytest.raises(InvalidInput, match="seeds 0 and 1"):
        paired_ratio(*(evaluate(lambda r: scores[r], split, protocol="sampled-99", seed=s) for s in (0, 1)))
    with pytest.raises(InvalidSettings, match="no metric"):
        paired_ratio(full, full, "mrr")


def test_bad_input_is_named() -> None:
    split = split_of()
    with pytest.raises(InvalidInput, match="users, items"):
        evaluate(lambda rows: np.zeros((len(rows), 3)), split)
    with pytest.raises(InvalidInput, match="scores are NaN"):
        evaluate(lambda rows: np.full((len(rows), 30), np.nan), split)
    with pytest.raises(InvalidSettings, match="no protocol"):
        evaluate(lambda rows: np.zeros((len(rows), 30)), split, protocol="top")  # type: ignore[arg-type]
    nobody = Interactions.from_ids([1, 2], [1, 2]).leave_one_out(0)
    with pytest.raises(InvalidInput, match="nothing to evaluate"):
        evaluate(lambda rows: np.zeros((len(rows), 2)), nobody)


def test_json_has_the_four_metrics_and_nothing_per_user() -> None:
    import json

    split = split_of()
    scores = scores_of(split, 5)
    text = json.dumps(evaluate(lambda r: scores[r], split).to_json())
    plain = json.loads(text)
    assert set(METRICS) < set(plain)
    assert set(plain["ci"]) == set(METRICS)
    assert len(text) < 2000


def test_import_needs_no_torch() -> None:
    code = "import sys, attrcloak.evaluation; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def naive_several(scores: np.ndarray, seen: np.ndarray, held: np.ndarray, cutoff: int) -> tuple[list[float], list]:
    """NDCG and HR by loops over users and places, items of equal score with the relevant ones last."""
    ndcg, hit = [], []
    for user in range(len(scores)):
        relevant = {i for i in range(scores.shape[1]) if held[user, i] and not seen[user, i]}
        if not relevant:
            continue
        unseen = [i for i in range(scores.shape[1]) if not seen[user, i]]
        ranking = sorted(unseen, key=lambda i: (-scores[user, i], i in relevant))[:cutoff]
        gain = sum(1 / math.log2(place + 2) for place, i in enumerate(ranking) if i in relevant)
        possible = min(cutoff, len(relevant))
        ndcg.append(gain / sum(1 / math.log2(place + 2) for place in range(possible)))
        hit.append(len(relevant & set(ranking)) / possible)
    return ndcg, hit


@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("items", [6, 40])
def test_several_held_out_items_are_as_in_a_naive_loop(items: int, levels: int | None, monkeypatch) -> None:
    monkeypatch.setattr("attrcloak.evaluation._CHUNK_BYTES", 7 * 8 * items)  # seven users at a time
    rng = np.random.default_rng(items)
    shape = (60, items)
    scores = rng.normal(size=shape) if levels is None else rng.integers(0, levels, size=shape).astype(float)
    seen, held = rng.random(shape) < 0.4, rng.random(shape) < 0.15
    asked: list[int] = []

    def score(rows: np.ndarray) -> np.ndarray:
        asked.append(len(rows))
        return scores[rows]

    report = evaluate_held_out(score, csr_array(seen.astype(np.float32)), csr_array(held.astype(np.float32)))
    assert max(asked) == 7
    for cutoff in (5, 10):
        ndcg, hit = naive_several(scores, seen, held, cutoff)
        np.testing.assert_allclose(report.per_user[f"ndcg@{cutoff}"], ndcg)
        np.testing.assert_allclose(report.per_user[f"hr@{cutoff}"], hit)
    assert report.users == len(ndcg)
    assert items > 6 or len(ndcg) < 60  # some have nothing to find
