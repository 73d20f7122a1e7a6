"""A recommender's items: few enough for memory, found by id, sent to whoever runs a pass."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidInput, raise_if
from attrcloak.parts.id_keys import KeyIndex, Keys, keys_of
from attrcloak.parts.location import Location
from attrcloak.parts.part import in_file, open_parts


@dataclass(frozen=True, eq=False)
class ItemTable:
    """Items and where each is.

    Attributes:
        vectors: (I, d) float64, in the order of the files.
        index: of their ids.
    """

    vectors: NDArray[np.float64]
    index: KeyIndex

    def __len__(self) -> int:
        return len(self.vectors)

    @classmethod
    def of(cls, vectors: NDArray[np.floating], keys: Keys) -> "ItemTable":
        """From vectors (I, d) and the keys of their ids, in the same order.

        Raises:
            InvalidInput: an id occurs more than once.
        """
        index = KeyIndex.of(keys)
        if index.repeated:
            raise InvalidInput(f"{index.repeated} item ids occur more than once; keep one vector for each item")
        return cls(np.asarray(vectors, dtype=np.float64), index)

    def rows(self, wanted: Keys) -> NDArray[np.int64]:
        """(m,) row of each wanted item, -1 where there is no such item."""
        return self.index.rows(wanted)


def read_items(place: Location) -> ItemTable:
    """The items in a file or folder: the ids of Parquet are in ``item_id``; row i of a .npy file is item i.

    Raises:
        UnreadableFile: as ``open_parts``.
        InvalidInput: likewise; ids missing or repeated, or numbers that are not finite, counted with their first rows.
    """
    is_parquet = place.files()[0][0].lower().endswith(".parquet")
    parts = open_parts(place, "item_id" if is_parquet else None)
    vectors, low, high = [], [], []
    first, problems = 0, list[str]()
    for part in parts:
        part_vectors = [*part.vectors(), np.empty((0, part.dim), dtype=part.dtype)]
        vectors.append(np.concatenate(part_vectors))
        bad = np.flatnonzero(~np.isfinite(vectors[-1]).all(axis=1))
        if len(bad):
            problems.append(
                f"{part.location.shown}: {len(bad)} item vectors hold NaN or infinity (rows "
                f"{', '.join(map(str, bad[:3].tolist()))}{', ...' if len(bad) > 3 else ''}); repair or drop them"
            )
        try:
            for batch in part.ids(first):
                keys = keys_of(batch, "item_id")
                low.append(keys.low)
                high.append(keys.highs)
        except InvalidInput as error:
            problems += in_file(part.location, error)
        first += part.rows
    raise_if(problems)
    try:
        return ItemTable.of(np.concatenate(vectors), Keys(np.concatenate(low), np.concatenate(high)))
    except InvalidInput as error:
        raise InvalidInput([f"{place.shown}: {problem}" for problem in error.problems]) from error
