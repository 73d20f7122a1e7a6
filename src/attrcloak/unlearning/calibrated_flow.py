"""Calibrated unlearning that ends in a flow: each class until it is as like itself as chance, near and far."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrcloak.errors import InvalidSettings
from attrcloak.moments.cell_moments import Matrix
from attrcloak.progress import Progress
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.class_flow import ClassFlow
from attrcloak.unlearning.method import Moved, Rows
from attrcloak.unlearning.null_draw import secret_generator


@dataclass(frozen=True, kw_only=True)
class CalibratedFlow(Calibrated):
    """As ``Calibrated`` with few slices, and then a flow along kernels of all widths (``ClassFlow``).

    Slices see one direction at a time; whom a k-NN attacker asks, a user's nearest neighbours, they hardly see. In the
    flow users move on their own, and only where their class is denser than chance: away from others of it, towards
    users drawn for it. With ``match="mean"`` and some 50 rounds it does the work of the covariance maps too, which on
    ML-1M (two models each of ALS and BPR) kept more of the recommendations and left more to quadratic attackers and
    networks. On ALS the moment equations read more than after ``Calibrated``.

    A round costs n min(n, 8192) d operations and more. Where some users did not ask for an attribute and show their
    class, there is no flow, for attackers learn from them what is not chance here; use ``Calibrated`` there, which has
    more slices.

    Attributes:
        rounds: of the flow.
    """

    name: ClassVar[str] = "calibrated-flow"

    slices: int = 5
    rounds: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices < 1 or self.rounds < 1:
            raise InvalidSettings("calibrated-flow moves row by row: slices and rounds must be at least 1")

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Draw the null, go to its moments, and flow."""

        def flow_of(codes: NDArray[np.int32], drawn: NDArray[np.int32]) -> Iterator[Callable[[Matrix], Matrix]]:
            flow = ClassFlow(codes, drawn, secret_generator(rows.key, b"flow"))
            for done in range(self.rounds):
                yield flow.steps
                if progress is not None:
                    progress(f"{self.name}, flow", done + 1, self.rounds)

        return self._moved(rows, None, progress, flow_of)
