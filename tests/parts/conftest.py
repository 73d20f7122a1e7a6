"""Tables in files of every kind, generated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Lists = Callable[[Any], Any]


def lists(matrix: np.ndarray, kind: str) -> pa.Array:
    """A matrix as a column of "list", "large_list" or "fixed_size_list"."""
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1])
    value = fixed.type.value_type
    return (
        fixed if kind == "fixed_size_list" else fixed.cast(pa.list_(value) if kind == "list" else pa.large_list(value))
    )


@pytest.fixture
def write_parquet() -> Callable[..., Path]:
    """``write_parquet(path, matrix, ids, kind, **options)``: with columns before and after the vectors."""

    def write(path: Path, matrix: np.ndarray, ids: Any = None, kind: str = "list", **options: Any) -> Path:
        ids = np.arange(len(matrix)) if ids is None else ids
        table = pa.table(
            {
                "country": pa.array([f"c{i % 3}" for i in range(len(matrix))]).dictionary_encode(),
                "user_id": ids,
                "vectors": lists(matrix, kind),
                "joined": pa.array(np.arange(len(matrix)) * 10**9, type=pa.timestamp("ns")),
            }
        ).replace_schema_metadata({"made": "by hand"})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, **options)
        return path

    return write
