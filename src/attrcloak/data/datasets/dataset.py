"""A data set in memory, and how columns of any source become one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from attrcloak.data.attributes import UserAttributes
from attrcloak.data.interactions import NO_ITEM, Interactions
from attrcloak.data.named_columns import id_values, missing_column
from attrcloak.errors import InvalidInput, raise_if


@dataclass(frozen=True, eq=False)
class Dataset:
    """Interactions and people of one source.

    Attributes:
        name: such as "ml-100k".
        interactions: who interacted with what.
        people: attributes of the users; may list users without interactions.
        licence: the terms in short, paraphrased, and where to read them.
        source: where it was read from.
    """

    name: str
    interactions: Interactions
    people: UserAttributes
    licence: str
    source: str

    @property
    def origin(self) -> str:
        """The source in words that may be handed on: a folder of this machine is "a local folder"."""
        return "a local folder" if Path(self.source).exists() else self.source

    @property
    def users_without_interactions(self) -> int:
        """Users who are listed with their attributes and have no interactions; no recommender has vectors of them."""
        return len(self.people) - int(np.isin(self.people.ids.values, self.interactions.users.values).sum())

    def describe(self, attributes: Sequence[str] | None = None) -> dict[str, Any]:
        """Sizes, terms and source, and the users with interactions in each class, as plain values.

        Args:
            attributes: those whose classes are counted; all by default.
        """
        people = self.people.align(self.interactions.users)
        return {
            "name": self.name,
            "users": len(self.interactions.users),
            "items": len(self.interactions.items),
            "interactions": len(self.interactions),
            "users_without_interactions": self.users_without_interactions,
            "licence": self.licence,
            "source": self.origin,
            "classes": {
                name: dict(zip(people[name].classes, people[name].counts.tolist(), strict=True))
                for name in (people.names if attributes is None else attributes)
            },
        }

    def fingerprint(self) -> str:
        """SHA-256 of who interacted with what and when, and of who belongs to which class."""
        digest = hashlib.sha256()
        pairs = self.interactions
        for ids in (pairs.users, pairs.items, self.people.ids):
            digest.update("\n".join(map(str, ids.values.tolist())).encode() + b"\0")
        for column in (pairs.user_rows, pairs.item_rows, pairs.times, pairs.ratings, pairs.last_item):
            digest.update(b"-" if column is None else np.ascontiguousarray(column).tobytes())
        for name in self.people.names:
            attribute = self.people[name]
            digest.update(repr((name, attribute.classes)).encode())
            digest.update(attribute.codes.tobytes() + attribute.marks.tobytes())
        return f"sha256:{digest.hexdigest()}"

    def require_attributes(self) -> None:
        """Raise InvalidInput when nothing is known of the users, before anything is trained for them.

        Raises:
            InvalidInput: there is no attribute; says what file would bring one.
        """
        if not self.people.names:
            wanted = (
                "ModCloth's body shape is in df_modcloth.csv (column user_attr); give its folder with data_dir="
                if self.name == "modcloth"
                else "give users.parquet a column for each attribute"
            )
            raise InvalidInput(f"{self.name} from {self.source} says nothing of its users: {wanted}")


def interactions_of(
    table: Any, source: str, user: str, item: str, time: str | None, rating: str | None, last: str | None = None
) -> Interactions:
    """Interactions from a pyarrow table. A time of 0 or none is unknown and counts as the earliest.

    Args:
        table: one row an interaction, in file order.
        source: names the file in messages.
        user: column of user ids.
        item: column of item ids.
        time: column of seconds or of timestamps; None: no times.
        rating: column of ratings; None: no ratings.
        last: column that is true in the row of each user's last item; None: times say it.
    """
    import pyarrow as pa

    wanted = [name for name in (user, item, time, rating, last) if name is not None]
    problems = [missing_column(name, table.column_names) for name in wanted if name not in table.column_names]
    if table.num_rows == 0:
        problems.append("the file holds no interactions")
    columns = {}
    for name in (user, item):
        if name in table.column_names:
            try:
                columns[name] = id_values(table[name], name)
            except InvalidInput as error:
                problems += error.problems
    numbers: dict[str, Any] = {}
    for field, kind in ((time, pa.int64()), (rating, pa.float32())):
        if field is not None and field in table.column_names:
            column = table[field]
            try:
                if pa.types.is_timestamp(column.type):
                    column = column.cast(pa.timestamp("s", tz=column.type.tz), safe=False)
                elif kind == pa.int64() and not pa.types.is_integer(column.type):
                    column = column.cast(pa.float64()).cast(pa.int64(), safe=False)
                numbers[field] = column.cast(kind).fill_null(0).to_numpy()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                problems.append(f"column {field!r}: not all values are numbers ({error})")
    raise_if([f"{source}: {problem}" for problem in problems])
    data = Interactions.from_ids(
        columns[user],
        columns[item],
        None if time is None else numbers[time],
        None if rating is None else numbers[rating],
    )
    if last is None:
        return data
    rows = np.flatnonzero(table[last].fill_null(False).to_numpy())
    last_item = np.full(len(data.users), NO_ITEM, dtype=np.int32)
    last_item[data.users.rows(columns[user][rows])] = data.items.rows(columns[item][rows])
    return replace(data, last_item=last_item)
