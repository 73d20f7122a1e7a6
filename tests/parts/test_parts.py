"""Parts are read in batches and written anew with nothing changed but the vectors."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.parts import Location, open_parts, part

ROWS, DIM = 3000, 6


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(part, "BATCH_BYTES", 1 << 14)


def matrix(dtype=np.float32, rows=ROWS):
    return np.random.default_rng(0).normal(size=(rows, DIM)).astype(dtype)


def minus(start, vectors):
    return -vectors


def rewritten(tmp_path, opened, change=minus):
    folder = Location.of(tmp_path / "writing")
    folder.make_folder()
    return opened.rewrite(Location.of(tmp_path / "new" / opened.name), folder, change)


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed_size_list"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_parquet_keeps_everything_but_the_vectors(tmp_path, write_parquet, kind, dtype):
    x = matrix(dtype)
    path = write_parquet(tmp_path / "a.parquet", x, kind=kind, row_group_size=700, compression="zstd")
    [opened] = open_parts(Location.of(path))
    assert (opened.rows, opened.dim, opened.dtype) == (ROWS, DIM, np.dtype(dtype))
    batches = list(opened.vectors())
    assert len(batches) > 1
    np.testing.assert_array_equal(np.concatenate(batches), x)
    done = rewritten(tmp_path, opened)
    new = tmp_path / "new" / "a.parquet"
    assert done.size == new.stat().st_size
    assert done.sha256 == Location.of(new).digest()
    before, after = pq.read_table(path), pq.read_table(new)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop(["vectors"]).equals(before.drop(["vectors"]))
    numbers = after["vectors"].combine_chunks().flatten().to_numpy()
    np.testing.assert_array_equal(numbers.reshape(-1, DIM), -x)


LAYOUTS = [
    {"compression": "snappy", "row_group_size": 1000},
    {"compression": "none", "use_dictionary": False, "write_statistics": False},
    {"compression": {"vectors.list.element": "gzip", "country": "none", "user_id": "zstd", "joined": "lz4"}},
    {
        "use_dictionary": False,
        "column_encoding": {"vectors.list.element": "BYTE_STREAM_SPLIT", "user_id": "DELTA_BINARY_PACKED"},
    },
    {"store_schema": False, "version": "1.0"},
    {"use_compliant_nested_type": False, "write_page_index": True, "write_statistics": ["user_id"]},
    {"sorting_columns": [pq.SortingColumn(1)]},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "-".join(layout))
def test_parquet_keeps_the_layout_of_the_file(tmp_path, write_parquet, layout):
    path = write_parquet(tmp_path / "a.parquet", matrix(), **layout)
    [opened] = open_parts(Location.of(path))
    rewritten(tmp_path, opened)
    old, new = pq.ParquetFile(path).metadata, pq.ParquetFile(tmp_path / "new" / "a.parquet").metadata
    assert (old.format_version, old.metadata, old.num_row_groups) == (
        new.format_version, new.metadata, new.num_row_groups
    )  # fmt: skip
    for group in range(old.num_row_groups):
        was, is_now = old.row_group(group), new.row_group(group)
        assert (was.num_rows, was.sorting_columns) == (is_now.num_rows, is_now.sorting_columns)
        for column in range(was.num_columns):
            one, other = was.column(column), is_now.column(column)
            for what in ("path_in_schema", "compression", "is_stats_set", "has_offset_index"):
                assert getattr(one, what) == getattr(other, what), what
            # New vectors do not repeat a number, so a dictionary would only be filled and given up.
            was_kept, is_kept = set(one.encodings), set(other.encodings)
            if one.path_in_schema.startswith("vectors.") and any("DICTIONARY" in name for name in was_kept):
                was_kept, is_kept = {"RLE"}, is_kept - {"PLAIN"}
            assert was_kept == is_kept


def test_a_table_is_its_files_in_the_order_of_their_names(tmp_path, write_parquet):
    x = matrix()
    for name, low, high in (("b", 1000, 3000), ("a", 0, 1000), ("c/d", 0, 0)):
        write_parquet(tmp_path / "table" / f"{name}.parquet", x[low:high], np.arange(low, high))
    parts = open_parts(Location.of(tmp_path / "table"))
    assert [(p.name, p.rows) for p in parts] == [("a.parquet", 1000), ("b.parquet", 2000), ("c/d.parquet", 0)]
    np.testing.assert_array_equal(np.concatenate([b for p in parts for b in p.vectors()]), x)
    ids = np.concatenate([np.asarray(batch) for p in parts for batch in p.ids(0)])
    np.testing.assert_array_equal(ids, np.arange(ROWS))


def test_npy_and_its_header_are_kept(tmp_path):
    x = matrix(np.float64)
    np.save(tmp_path / "a.npy", x)
    [opened] = open_parts(Location.of(tmp_path / "a.npy"))
    assert len(list(opened.vectors())) > 1
    rewritten(tmp_path, opened)
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "a.npy"), -x)
    np.testing.assert_array_equal(np.concatenate(list(opened.ids(50))), np.arange(50, 50 + ROWS))


def test_safetensors_keeps_other_tensors_and_metadata(tmp_path):
    x = matrix(np.float16)
    arrays = {"items": matrix(rows=9), "ids": np.arange(ROWS) * 2, "vectors": x, "zz": np.arange(5)}
    save_file(arrays, tmp_path / "a.safetensors", metadata={"model": "als"})
    [opened] = open_parts(Location.of(tmp_path / "a.safetensors"), vector_column="vectors")
    rewritten(tmp_path, opened)
    new = load_file(tmp_path / "new" / "a.safetensors")
    np.testing.assert_array_equal(new.pop("vectors"), -x)
    for name, array in new.items():
        np.testing.assert_array_equal(array, arrays[name])
    old = (tmp_path / "a.safetensors").read_bytes()
    assert (tmp_path / "new" / "a.safetensors").read_bytes()[: 8 + int.from_bytes(old[:8], "little")] == old[
        : 8 + int.from_bytes(old[:8], "little")
    ]
    np.testing.assert_array_equal(np.concatenate(list(opened.ids(0))), arrays["ids"])


def test_a_constant_last_column_of_user_factors_is_frozen(tmp_path):
    x = matrix()
    x[:, -1] = 1
    save_file({"user_factors": x}, tmp_path / "bpr.safetensors")
    x[-1, -1] = 2
    save_file({"user_factors": x}, tmp_path / "als.safetensors")
    [bpr], [als] = (open_parts(Location.of(tmp_path / f"{name}.safetensors")) for name in ("bpr", "als"))
    assert (bpr.frozen_columns, bpr.scoring) == ((DIM - 1,), "dot+constant")
    assert (als.frozen_columns, als.scoring) == ((), "dot")


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed_size_list"])
def test_a_file_of_no_rows_is_as_wide_as_the_others(tmp_path, write_parquet, kind):
    """Spark writes such files, and comes with the first of them; a list that is not there has no length."""
    folder = tmp_path / "table"
    write_parquet(folder / "a.parquet", matrix(rows=0), kind=kind)
    write_parquet(folder / "b.parquet", matrix(rows=50), kind=kind)
    empty, _ = open_parts(Location.of(folder))
    assert (empty.rows, empty.dim) == (0, DIM)
    rewritten(tmp_path, empty)
    assert pq.read_table(tmp_path / "new" / "a.parquet").equals(pq.read_table(folder / "a.parquet"))


def test_a_file_of_no_rows_has_the_frozen_columns_of_the_others(tmp_path):
    """On its own its last column is constant, for want of rows."""
    save_file({"user_factors": matrix(rows=0)}, tmp_path / "a.safetensors")
    save_file({"user_factors": matrix()}, tmp_path / "b.safetensors")
    empty, _ = open_parts(Location.of(tmp_path))
    assert (empty.frozen_columns, empty.scoring) == ((), "dot")


def test_all_files_that_do_not_fit_are_named(tmp_path, write_parquet):
    folder = tmp_path / "table"
    write_parquet(folder / "a.parquet", matrix(rows=50))
    write_parquet(folder / "b.parquet", matrix(rows=50)[:, :4])
    write_parquet(folder / "c.parquet", matrix(np.float64, rows=50))
    with pytest.raises(InvalidInput) as error:
        open_parts(Location.of(folder))
    assert "width" in str(error.value)
    assert "b.parquet (4)" in str(error.value)
    assert "c.parquet (float64)" in str(error.value)


def test_a_file_without_the_vectors_of_the_others_says_where_those_have_them(tmp_path, write_parquet):
    folder = tmp_path / "table"
    write_parquet(folder / "a.parquet", matrix(rows=50))
    pq.write_table(pa.table({"user_id": [1, 2]}), folder / "b.parquet")
    with pytest.raises(InvalidInput, match=r"b.parquet: 0 columns hold lists") as error:
        open_parts(Location.of(folder))
    assert "a.parquet can be read, with ids in 'user_id' and vectors in 'vectors'" in str(error.value)
    table = pq.read_table(folder / "a.parquet")
    pq.write_table(table.rename_columns(["country", "user_id", "vector", "joined"]), folder / "b.parquet")
    with pytest.raises(InvalidInput, match=r"differ in the column of their vectors .*b.parquet \(vector\)"):
        open_parts(Location.of(folder))


def test_a_file_that_is_damaged_inside_is_named(tmp_path, write_parquet):
    path = write_parquet(tmp_path / "a.parquet", matrix(rows=2000), compression="zstd", row_group_size=500)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8000] = bytes(8000)
    path.write_bytes(content)
    (part,) = open_parts(Location.of(path))
    (tmp_path / "writing").mkdir()
    checked = write_parquet(tmp_path / "b.parquet", matrix(rows=2000), compression="none", write_page_checksum=True)
    content = bytearray(checked.read_bytes())
    content[len(content) // 2] ^= 1
    checked.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"b.parquet: cannot be read .*CRC"):
        list(open_parts(Location.of(checked))[0].vectors())
    for read in (
        lambda: list(part.vectors()),
        lambda: part.rewrite(Location.of(tmp_path / "new"), Location.of(tmp_path / "writing"), lambda _, x: x),
    ):
        with pytest.raises(UnreadableFile, match=r"a.parquet: cannot be read .*is the file complete"):
            read()
    assert not (tmp_path / "new").exists()


def test_what_cannot_be_streamed_says_so(tmp_path, write_parquet):
    folder = tmp_path / "table"
    write_parquet(folder / "a.parquet", matrix(rows=50))
    (folder / "b.csv").write_text("x")
    with pytest.raises(UnreadableFile, match=r"1 of 2 files .*b.csv"):
        open_parts(Location.of(folder))
    (folder / "b.csv").unlink()
    np.save(folder / "b.npy", matrix())
    with pytest.raises(InvalidInput, match="several kinds"):
        open_parts(Location.of(folder))


def broken(tmp_path):
    """(file, word of the message)"""

    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    np.save(tmp_path / "ok.npy", matrix())
    ok = (tmp_path / "ok.npy").read_bytes()
    header = json.dumps({"vectors": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.arange(3.0))
    np.save(tmp_path / "whole.npy", np.arange(6).reshape(2, 3))
    np.save(tmp_path / "columns.npy", np.asfortranarray(matrix()))
    table = pa.table({"user_id": [1, 2], "vectors": [[1, 2], [3, 4]]})
    pq.write_table(table, tmp_path / "integers.parquet")
    pq.write_table(table.drop(["user_id"]), tmp_path / "noid.parquet")
    yield file("empty.npy", b""), "complete"
    yield file("short.npy", ok[:-8]), "8 bytes are missing"
    yield tmp_path / "objects.npy", "never run"
    yield tmp_path / "flat.npy", "shape"
    yield tmp_path / "whole.npy", "float16, float32 or float64"
    yield tmp_path / "columns.npy", "ascontiguousarray"
    yield file("short.safetensors", (1 << 40).to_bytes(8, "little")), "complete"
    yield file("text.safetensors", b"\x02" + bytes(7) + b"[]"), "complete"
    yield file("bf16.safetensors", len(header).to_bytes(8, "little") + header + bytes(8)), "F16, F32 or F64"
    yield file("short.parquet", b"PAR1"), "complete"
    yield tmp_path / "integers.parquet", "float16, float32 or float64"
    yield tmp_path / "noid.parquet", "user_id"


def test_broken_files_are_named_with_what_is_wrong(tmp_path):
    for path, word in broken(tmp_path):
        with pytest.raises(InvalidInput) as error:
            open_parts(Location.of(path))
        assert path.name in str(error.value)
        assert word in str(error.value), str(error.value)


def test_bad_rows_have_their_numbers_in_the_file(tmp_path):
    rows = [[1.0, 2.0]] * 2500 + [None, [1.0], [3.0, None]]
    table = pa.table({"user_id": np.arange(2503), "vectors": pa.array(rows, type=pa.list_(pa.float32()))})
    for bad in (2500, 2501, 2502):
        pq.write_table(table.take([*range(2500), bad]), tmp_path / "a.parquet")
        [opened] = open_parts(Location.of(tmp_path / "a.parquet"))
        with pytest.raises(InvalidInput, match="rows 2500"):
            list(opened.vectors())


def test_what_is_wrong_in_every_file_is_said_once(tmp_path):
    for name in "abcde":
        table = pa.table({"user_id": [1], "vectors": pa.array([[1.0, 2.0]], type=pa.list_(pa.float32(), 2))})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    with pytest.raises(InvalidInput) as error:
        open_parts(Location.of(str(tmp_path)), id_column="nobody")
    (problem,) = error.value.problems
    assert problem.startswith(f"5 files ({tmp_path}/a.parquet, {tmp_path}/b.parquet, {tmp_path}/c.parquet, ...): there")


def test_problems_have_the_name_of_their_file_once():
    error = InvalidInput(["ids are missing", "ids: 3 rows are repeated"])
    assert part.in_file(Location.of("ids"), error) == ["ids: ids are missing", "ids: 3 rows are repeated"]
