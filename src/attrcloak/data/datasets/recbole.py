"""RecBole's atomic files: tab-separated, a header of ``field:type``."""

from pathlib import Path
from typing import Any

from attrcloak.data.datasets.dataset import interactions_of
from attrcloak.data.interactions import Interactions
from attrcloak.data.named_columns import read_table


def read_atomic(path: Path) -> Any:
    """The pyarrow table of an atomic file, columns named without their type."""
    table = read_table(path, "\t")
    return table.rename_columns([name.split(":")[0] for name in table.column_names])


def read_inter(path: Path) -> Interactions:
    """Interactions of an ``.inter`` file."""
    table = read_atomic(path)
    names = table.column_names
    time, rating = ("timestamp" if "timestamp" in names else None), ("rating" if "rating" in names else None)
    return interactions_of(table, str(path), "user_id", "item_id", time, rating)
