"""ModCloth in the layout of the marketBias repository."""

from pathlib import Path

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.datasets.dataset import interactions_of
from attrcloak.data.interactions import Interactions
from attrcloak.data.named_columns import missing_column, read_table
from attrcloak.errors import InvalidInput


def read_modcloth(folder: Path) -> tuple[Interactions, UserAttributes]:
    """``df_modcloth*.csv``: a user is Small or Large where any of that user's rows says so; no id: row left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    path = sorted(folder.glob("df_modcloth*.csv"))[0]
    table = read_table(path)
    missing = [
        name for name in ("user_id", "item_id", "user_attr", "timestamp", "rating") if name not in table.column_names
    ]
    if missing:
        raise InvalidInput([f"{path}: {missing_column(name, table.column_names)}" for name in missing])
    table = table.filter(pc.is_valid(table["user_id"]))
    days = pc.utf8_slice_codeunits(table["timestamp"], 0, 19)
    seconds = pc.strptime(days, format="%Y-%m-%d %H:%M:%S", unit="s").cast(pa.int64())
    table = table.set_column(table.column_names.index("timestamp"), "timestamp", seconds)
    data = interactions_of(table, str(path), "user_id", "item_id", "timestamp", "rating")
    by_user: dict[str, str | None] = {}
    for user, value in zip(table["user_id"].to_pylist(), table["user_attr"].to_pylist(), strict=True):
        by_user[user] = by_user.get(user) or value
    people = UserAttributes.from_values(list(by_user), user_attr=list(by_user.values()))
    return data, people
