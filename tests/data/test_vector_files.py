import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attrcloak.data import EmbeddingTable, Ids
from attrcloak.data.vector_files import read_vectors, write_vectors
from attrcloak.errors import InvalidInput, UnreadableFile


@pytest.fixture
def table():
    vectors = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    return EmbeddingTable(Ids(np.array([4, 9, 1, 7, 3, 2])), vectors)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".safetensors"])
def test_round_trip_keeps_ids_and_values(table, tmp_path, suffix):
    write_vectors(table, tmp_path / f"v{suffix}")
    assert read_vectors(tmp_path / f"v{suffix}").fingerprint() == table.fingerprint()
    assert [entry.name for entry in tmp_path.iterdir()] == [f"v{suffix}"]


def test_npy_has_rows_for_ids(table, tmp_path):
    write_vectors(table, tmp_path / "v.npy")
    back = read_vectors(tmp_path / "v.npy")
    assert back.ids.values.tolist() == list(range(6))
    np.testing.assert_array_equal(back.vectors, table.vectors)


def test_implicit_bpr_constant_is_frozen(tmp_path):
    factors = np.hstack([np.random.default_rng(0).normal(size=(5, 2)), np.ones((5, 1))])
    np.savez(tmp_path / "m.npz", user_factors=factors, item_factors=factors)
    table = read_vectors(tmp_path / "m.npz")
    assert table.frozen_columns == (2,)
    assert table.scoring == "dot+constant"


def test_parquet_like_keeps_columns_order_and_metadata(table, tmp_path):
    lists = pa.array(table.vectors.astype(np.float64).tolist(), pa.list_(pa.float32()))
    content = pa.table({"note": list("abcdef"), "emb": lists, "user_id": table.ids.values})
    pq.write_table(content.replace_schema_metadata({"owner": "x"}), tmp_path / "a.parquet")
    turned = table.take(np.arange(6)[::-1])
    write_vectors(turned, tmp_path / "b.parquet", like=tmp_path / "a.parquet")
    back = pq.read_table(tmp_path / "b.parquet")
    assert back.schema.equals(pq.read_table(tmp_path / "a.parquet").schema, check_metadata=True)
    assert back["note"].to_pylist() == list("abcdef")
    np.testing.assert_array_equal(read_vectors(tmp_path / "b.parquet").vectors, table.vectors)


def test_null_rows_and_repeated_ids_are_reported_together(tmp_path):
    pq.write_table(pa.table({"user_id": [1, 1, 2], "v": [[1.0], None, [2.0]]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput) as caught:
        read_vectors(tmp_path / "a.parquet")
    assert len(caught.value.problems) == 2
    assert "1 rows have no vector (rows 1)" in str(caught.value)


def test_objects_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UnreadableFile, match="never run"):
        read_vectors(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 40])
def test_files_cut_short(table, tmp_path, suffix, keep):
    path = tmp_path / f"v{suffix}"
    write_vectors(table, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnreadableFile):
        read_vectors(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "v.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(InvalidInput, match="text"):
        write_vectors(EmbeddingTable(Ids(np.array(["a"])), np.ones((1, 2))), path)
    assert path.read_bytes() == b"old"


def test_near_miss_of_a_column(tmp_path):
    pq.write_table(pa.table({"usr_id": [1], "v": [[1.0]]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidInput, match="did you mean 'usr_id'"):
        read_vectors(tmp_path / "a.parquet")
