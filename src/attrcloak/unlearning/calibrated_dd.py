"""Calibrated unlearning with interaction data: the same flow, on ways that leave each user's own list alone."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from attrcloak.errors import NotSupported
from attrcloak.progress import Progress
from attrcloak.unlearning.calibrated_flow import CalibratedFlow
from attrcloak.unlearning.list_metric import ListMetric
from attrcloak.unlearning.method import Moved, RankingLoss, Rows


@dataclass(frozen=True, kw_only=True)
class CalibratedDD(CalibratedFlow):
    """As ``CalibratedFlow``, with every user moving where their own list of recommendations minds least.

    What has to change is a property of classes, such as the mean, and there are many ways to share it out among the
    users of a class. Each user's metric says which directions would reorder the head of their list of unseen items,
    by what is theirs of the score; moves are along the directions that would not. It needs interactions, to know what
    is unseen, and the recommender's items. Where all vectors are of one length it moves as ``CalibratedFlow`` does:
    lists lost more there by the longer ways than they saved.

    Where some users did not ask for an attribute and show their class, it moves as ``Calibrated`` does, class means and
    slices along the lists.
    """

    name: ClassVar[str] = "calibrated-dd"

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Go to chance by ways that lists hardly notice.

        Raises:
            NotSupported: the run has no recommender's loss that knows lists, that is no interactions.
        """
        if not isinstance(rows.recommendation, RankingLoss):
            raise NotSupported(
                "calibrated-dd needs interactions and the recommender's items to know what must not change in each "
                "user's list; without them use calibrated-flow or calibrated"
            )
        metric_of = partial(ListMetric.of_unseen, rows.recommendation, rows.vectors, length=self.lists)
        if rows.cells.silent.any():
            return self._moved(rows, metric_of, progress)
        return self._flowed(rows, metric_of, progress)
