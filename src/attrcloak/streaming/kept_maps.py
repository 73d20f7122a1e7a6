"""Maps that are there already, in place of a method that solves for them: other users in files, and the way back."""

import hashlib

import numpy as np

from attrcloak.moments.cell_moments import CellMoments
from attrcloak.moments.eraser import Eraser
from attrcloak.unlearning.method import Length, Solution


class KeptMaps:
    """A fitted eraser for ``unlearn_files``: its maps, with classes matched by name, instead of new ones.

    Users whose class or combination of classes the eraser was not fitted on are an error (``UnknownCell``) that names
    and counts them, before anything is written.
    """

    name = "kept maps"

    def __init__(self, eraser: Eraser) -> None:
        self.eraser = eraser

    def __repr__(self) -> str:
        """The maps by their digest: a run that is taken up again has to have the same."""
        digest = hashlib.sha256(np.ascontiguousarray(self.eraser.matrices).tobytes() + self.eraser.offsets.tobytes())
        return f"KeptMaps({self.eraser.provenance.get('method', 'unnamed')}, sha256:{digest.hexdigest()})"

    @property
    def length(self) -> Length:
        """Whether vectors are brought to one length first: as when the eraser was fitted."""
        return "unit" if self.eraser.scaling == "unit" else "keep"

    def solve(self, moments: CellMoments) -> Solution:
        """The maps for the cells of these users."""
        return Solution(self.eraser.under(moments.key, moments.count))
