"""Recommendations from tables in files: the figures are those of memory, on everybody or on a sample."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from attrcloak.data import EmbeddingTable, Ids
from attrcloak.data.interactions import NO_ITEM, Interactions
from attrcloak.data.vector_files import write_vectors
from attrcloak.errors import InvalidInput, InvalidSettings, UnreadableFile
from attrcloak.evaluation import evaluate
from attrcloak.streaming import evaluate_files
from attrcloak.streaming.utility_run import FilesUtility

ITEMS = 40


@pytest.fixture
def taken(world):
    """Items, and what everybody took: eight items each, by taste; the last of them held out, all others seen."""
    rng = np.random.default_rng(3)
    items = rng.normal(size=(ITEMS, world.vectors.shape[1]))
    scores = world.vectors @ items.T + rng.gumbel(size=(len(world.ids), ITEMS))
    chosen = np.argsort(-scores, axis=1)[:, :8]
    users = np.repeat(world.ids, 8)
    split = Interactions.from_ids(users, chosen.reshape(-1), np.tile(np.arange(8), len(world.ids))).leave_one_out(0)
    of = split.train.users.values
    validated = split.validation_items != NO_ITEM
    seen_users = np.concatenate([of[split.train.user_rows], of[validated]])
    seen_items = np.concatenate([split.train.item_rows, split.validation_items[validated]])
    names = split.train.items.values
    write_pairs(world, "seen.parquet", seen_users, seen_items, names)
    there = split.test_items != NO_ITEM
    write_pairs(world, "later.csv", of[there], split.test_items[there], names)
    np.save(world.folder / "items.npy", items)
    return items, split


def write_pairs(world, name, users, item_rows, names) -> None:
    """Pairs in random order, one of them twice."""
    order = np.random.default_rng(0).permutation(np.append(np.arange(len(users)), 0))
    table = pa.table({"user_id": users[order], "item_id": names[item_rows[order]].astype(np.int64)})
    if name.endswith(".csv"):
        pacsv.write_csv(table, world.folder / name)
    else:
        pq.write_table(table, world.folder / name)


def found(world, table: str = "table", **changes) -> FilesUtility:
    given = {"items": "items.npy", "held_out": "later.csv", "seen": "seen.parquet", **changes}
    named = {
        name: str(world.folder / value) if name in ("items", "held_out", "seen", "original") and value else value
        for name, value in given.items()
    }
    return evaluate_files(str(world.folder / table), **{"workers": 1, **named})


def in_memory(world, taken, vectors):
    items, split = taken
    row_of = {user: row for row, user in enumerate(world.ids.tolist())}
    rows = np.array([row_of[user] for user in split.train.users.values.tolist()])
    columns = split.train.items.values.astype(np.int64)
    return evaluate(lambda chosen: vectors[rows[chosen]] @ items[columns].T, split)


def test_with_one_held_out_item_each_it_is_leave_one_out_of_memory(world, taken):
    expected = in_memory(world, taken, world.vectors.astype(np.float32))
    result = found(world)
    assert result.everybody
    assert result.report.users == expected.users
    assert result.report.values == pytest.approx(expected.values)
    assert result.report.ci["ndcg@10"] == pytest.approx(expected.ci["ndcg@10"])
    assert 0.1 < expected.values["ndcg@10"] < 0.9
    assert result.report.protocol == "held-out"


def test_what_was_seen_is_not_recommended_again(world, taken):
    assert found(world, seen=None).report.values["ndcg@10"] < 0.9 * found(world).report.values["ndcg@10"]


def test_beside_the_table_before_it_gives_the_paired_share(world, taken):
    noisy = world.vectors + np.random.default_rng(1).normal(size=world.vectors.shape)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(noisy.astype(np.float32).reshape(-1)), noisy.shape[1])
    pq.write_table(pa.table({"user_id": world.ids, "vectors": lists}), world.folder / "noisy.parquet")
    result = found(world, "noisy.parquet", original="table")
    before, after = (
        in_memory(world, taken, each.astype(np.float32)).values["ndcg@10"] for each in (world.vectors, noisy)
    )
    ratio, low, high = result.ratios["ndcg@10"]
    assert ratio == pytest.approx(after / before)
    assert low < ratio < high < 1
    assert result.original.values["ndcg@10"] == pytest.approx(before)
    told = result.to_json()
    assert told["schema"] == "attrcloak/evaluate-files/1"
    assert told["ratios"]["ndcg@10"] == [ratio, low, high]


def test_a_sample_is_of_the_same_users_for_every_order_of_files_and_rows(world, taken):
    some = found(world, users=200)
    assert (some.everybody, some.report.users) == (False, 200)
    lines = (world.folder / "later.csv").read_text().splitlines()
    (world.folder / "later").mkdir()
    mixed = np.random.default_rng(7).permutation(lines[1:])
    for name, part in (("a", mixed[:900]), ("b", mixed[900:])):
        (world.folder / "later" / f"{name}.csv").write_text("\n".join([lines[0], *part]) + "\n")
    again = found(world, users=200, held_out="later")
    # The rows of a sample are in no order that means anything; whose they are is what has to be the same.
    assert sorted(again.report.per_user["ndcg@10"]) == pytest.approx(sorted(some.report.per_user["ndcg@10"]))
    everybody = found(world).report
    assert abs(some.report.values["ndcg@10"] - everybody.values["ndcg@10"]) < 0.1
    narrow, wide = (high - low for low, high in (everybody.ci["ndcg@10"], some.report.ci["ndcg@10"]))
    assert wide > 2 * narrow


def test_every_engine_and_kind_of_file_gives_the_same(world, taken):
    expected = found(world).report.values
    assert found(world, engine="pool", workers=2).report.values == pytest.approx(expected)
    write_vectors(EmbeddingTable(Ids(world.ids), world.vectors.astype(np.float32)), world.folder / "table.npz")
    assert found(world, "table.npz").report.values == pytest.approx(expected)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.load(world.folder / "items.npy")[::-1].reshape(-1)), 6)
    named = pa.table({"item_id": np.arange(ITEMS)[::-1], "vectors": lists})
    pq.write_table(named, world.folder / "items.parquet")
    assert found(world, items="items.parquet").report.values == pytest.approx(expected)


def test_ids_may_be_text_in_parts_of_many_batches_some_of_them_empty(world, taken, monkeypatch):
    expected = found(world).report.values
    monkeypatch.setattr("attrcloak.parts.parquet_part._IDS_PER_BATCH", 90)
    (world.folder / "texts").mkdir()
    for name, low, high in (("a", 0, 0), ("b", 0, 700), ("c", 700, len(world.ids))):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(world.vectors[low:high].astype(np.float32).reshape(-1)), 6)
        ids = pa.array([f"user {i}" if i % 2 else str(i) for i in world.ids[low:high]], pa.string())
        pq.write_table(pa.table({"user_id": ids, "vectors": lists}), world.folder / "texts" / f"{name}.parquet")
    for pairs, mixed in (("seen.parquet", "seen-text.parquet"), ("later.csv", "later-text.parquet")):
        read = pacsv.read_csv if pairs.endswith(".csv") else pq.read_table
        content = read(world.folder / pairs)
        texts = pa.array([f"user {i}" if i % 2 else str(i) for i in content["user_id"].to_pylist()])
        pq.write_table(pa.table({"user_id": texts, "item_id": content["item_id"]}), world.folder / mixed)
    result = found(world, "texts", held_out="later-text.parquet", seen="seen-text.parquet")
    assert result.report.values == pytest.approx(expected)


def test_rows_of_a_folder_of_arrays_are_numbered_through(world, taken):
    expected = found(world).report.values
    (world.folder / "arrays").mkdir()
    wide = np.zeros((world.ids.max() + 1, 6), np.float32)
    wide[world.ids] = world.vectors
    for name, low, high in (("a", 0, 4000), ("b", 4000, len(wide))):
        np.save(world.folder / "arrays" / f"{name}.npy", wide[low:high])
    assert found(world, "arrays").report.values == pytest.approx(expected)


def test_the_names_of_columns_hold_for_npz_too(world, taken):
    vectors = world.vectors.astype(np.float32)
    np.savez(world.folder / "two.NPZ.npz", ids=world.ids[::-1], user=world.ids, a=vectors, b=np.ones_like(vectors))
    result = found(world, "two.NPZ.npz", id_column="user", vector_column="a")
    assert result.report.values == pytest.approx(found(world).report.values)


def test_what_is_wrong_with_the_tables_is_said_before_the_pairs_are_read(world, taken, monkeypatch):
    def never(*_):
        raise AssertionError("the pairs were read")

    monkeypatch.setattr("attrcloak.streaming.utility_run.sample_pairs", never)
    with pytest.raises(UnreadableFile, match="nosuch"):
        found(world, original="nosuch")
    with pytest.raises(InvalidSettings, match="engine"):
        found(world, engine="pol")
    np.save(world.folder / "wide.npy", np.ones((ITEMS, 9)))
    with pytest.raises(InvalidInput, match=r"6 dimensions and .*wide\.npy has 9"):
        found(world, items="wide.npy", original="table")


def test_one_user_has_no_interval_and_nothing_no_share(world, taken):
    user = world.ids[0]
    best = int(np.argmax(np.load(world.folder / "items.npy") @ world.vectors[0]))
    worst = int(np.argmin(np.load(world.folder / "items.npy") @ world.vectors[0]))
    (world.folder / "one.csv").write_text(f"user_id,item_id\n{user},{best}\n")
    result = found(world, held_out="one.csv", seen=None, original="table")
    assert result.report.values["ndcg@10"] == 1
    assert np.isnan(result.ratios["ndcg@10"]).all()
    (world.folder / "two.csv").write_text(f"user_id,item_id\n{user},{worst}\n")
    assert np.isnan(found(world, held_out="two.csv", seen=None, original="table").ratios["ndcg@5"]).all()


def test_several_held_out_items_count_alike(world, taken):
    """By hand: one user who took two items, of which one is on top, one third, of four not seen."""
    first = world.ids[0]
    items = np.zeros((4, world.vectors.shape[1]))
    items[:, 0] = np.array([4.0, 3.0, 2.0, 1.0]) / world.vectors[0, 0]
    np.save(world.folder / "four.npy", items)
    (world.folder / "two.csv").write_text(f"user_id,item_id\n{first},0\n{first},2\n")
    result = found(world, items="four.npy", held_out="two.csv", seen=None)
    ideal = 1 + 1 / np.log2(3)
    assert result.report.values["ndcg@5"] == pytest.approx((1 + 1 / np.log2(4)) / ideal)
    assert result.report.values["hr@5"] == 1
    (world.folder / "seen-one.csv").write_text(f"user_id,item_id\n{first},1\n{first},2\n")
    result = found(world, items="four.npy", held_out="two.csv", seen="seen-one.csv")
    assert result.report.values == pytest.approx({"ndcg@5": 1, "ndcg@10": 1, "hr@5": 1, "hr@10": 1})
    (world.folder / "seen-all.csv").write_text(f"user_id,item_id\n{first},0\n{first},2\n")
    with pytest.raises(InvalidInput, match="none of 1 users has a held-out item not seen before"):
        found(world, items="four.npy", held_out="two.csv", seen="seen-all.csv")


@pytest.mark.parametrize(
    ("name", "text", "changes", "said"),
    [
        ("x.csv", "user_id,item_id\n1,0\n2,0\n3,0\n", {"held_out": "x.csv", "seen": None}, "2 of 3 users"),
        ("x.csv", "user_id,item_id\n3,0\n3,99\n", {"held_out": "x.csv"}, r"1 of 2 rows are of items .* \(99\)"),
        ("x.csv", "user_id,item_id\n", {"held_out": "x.csv"}, "no rows"),
        ("x.csv", "user_id,item_id\n1,0\n2,0\n", {"seen": "x.csv"}, "none of 2 rows is of one of the"),
        ("x.csv", "user,item_id\n1,0\n", {"held_out": "x.csv"}, "user_id"),
    ],
)
def test_what_does_not_fit_together_is_counted_and_named(world, taken, name, text, changes, said):
    (world.folder / name).write_text(text)
    with pytest.raises(InvalidInput, match=said) as error:
        found(world, **changes)
    assert "x.csv" in str(error.value) or "table" in str(error.value)


def test_users_twice_are_refused(world, taken):
    part = next(iter(sorted((world.folder / "table").iterdir())))
    (world.folder / "table" / "again.parquet").write_bytes(part.read_bytes())
    with pytest.raises(InvalidInput, match="400 of 1500 users have more than one vector"):
        found(world)
    with pytest.raises(InvalidSettings, match="a sample of 0 users"):
        found(world, users=0)


def test_files_that_were_read_again_are_named(world, taken, tired):
    assert found(world).warnings == ()
    tired("utility_run")
    again = found(world)
    assert "files were done again" in again.warnings[0]
    assert again.to_json()["warnings"] == list(again.warnings)
