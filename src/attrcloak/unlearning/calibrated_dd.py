"""Calibrated unlearning with interaction data: the same goals, on ways that leave each user's list alone."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from attrcloak.errors import InvalidSettings, NotSupported
from attrcloak.progress import Progress
from attrcloak.unlearning.calibrated import Calibrated
from attrcloak.unlearning.list_metric import ListMetric
from attrcloak.unlearning.method import Moved, RankingLoss, Rows


@dataclass(frozen=True, kw_only=True)
class CalibratedDD(Calibrated):
    """As ``Calibrated``, with every user moving where their own list of recommendations minds least.

    What has to change is a property of classes, such as the mean, and there are many ways to share it out among the
    users of a class. Each user's metric says which directions would reorder the head of their list of unseen items;
    class means and slices move along the directions that would not. The affine maps between them are as in
    ``Calibrated``. It needs interactions, to know what is unseen, and the recommender's items; n d^2 float32 numbers of
    memory; and it leaves no eraser.

    Attributes:
        lists: unseen items at the head of a list whose order is to be kept.
    """

    name: ClassVar[str] = "calibrated-dd"

    lists: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slices < 1 or self.lists < 2:
            raise InvalidSettings("calibrated-dd moves row by row: slices must be at least 1 and lists at least 2")

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Draw the null, and go to it by ways that lists hardly notice.

        Raises:
            NotSupported: the run has no recommender's loss that knows lists, that is no interactions.
        """
        if not isinstance(rows.recommendation, RankingLoss):
            raise NotSupported(
                "calibrated-dd needs interactions and the recommender's items to know what must not change in each "
                "user's list; without them use calibrated"
            )
        metric_of = partial(ListMetric.of, rows.recommendation, rows.vectors, length=self.lists)
        return self._moved(rows, metric_of, progress)
