"""The cells of a table's users: what classes they asked to have removed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.moments.cell_key import NOT_MARKED, CellKey


@dataclass(frozen=True, eq=False)
class Cells:
    """The cell of each user of a table.

    Attributes:
        key: what the cells mean.
        of_user: (n,) cell of each user in [0, len(key)).
        known: (n, A) class codes of everybody, asked or not, -1 where unknown; None where only marked ones are known.
    """

    key: CellKey
    of_user: NDArray[np.int32]
    known: NDArray[np.int32] | None = None

    @property
    def moves(self) -> NDArray[np.bool_]:
        """(n,) users who asked for at least one attribute; everyone else stays bit-identical."""
        return ~self.key.unmarked[self.of_user]

    @property
    def codes(self) -> NDArray[np.int32]:
        """(n, A) class codes, -1 where not marked."""
        return self.key.combinations[self.of_user]

    @property
    def silent(self) -> NDArray[np.bool_]:
        """(n, A) users who did not ask for an attribute and whose class is known: attackers may learn from them.

        Where nothing is known beyond what is marked, whoever is not marked counts.
        """
        unmarked = np.asarray(self.codes == NOT_MARKED)
        return unmarked if self.known is None else np.asarray(unmarked & (self.known != NOT_MARKED))
