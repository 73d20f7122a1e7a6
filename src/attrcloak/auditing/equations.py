"""The moment-equation attack on one attribute: over whom the equations run, and whom they are judged on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrcloak.attackers import moment_equation_attack
from attrcloak.auditing.attacks import Answers
from attrcloak.auditing.measures import auc, balanced_accuracy
from attrcloak.auditing.questions import Question
from attrcloak.data.attributes import Attribute


@dataclass(frozen=True, eq=False)
class Equations:
    """The equations run over everybody who asked, in all classes, since those are whose moments a method matched.

    Attributes:
        vectors: (m, d) users who asked.
        codes: (m,) their classes in [0, classes).
        classes: all classes of the attribute, left-out ones included.
        question: what is judged.
        kept: classes of the question, as classes of the attribute.
        places: (m,) position of each user in the question, -1 for users who are not judged.
    """

    vectors: NDArray[np.floating]
    codes: NDArray[np.int64]
    classes: int
    question: Question
    kept: NDArray[np.int64]
    places: NDArray[np.int64]

    @classmethod
    def of(cls, question: Question, column: Attribute, vectors: NDArray[np.floating]) -> "Equations":
        """For one question; ``column`` and ``vectors`` are over all users, in the order of the surfaces."""
        who = np.flatnonzero(column.marks)
        places = np.full(len(vectors), -1)
        places[question.rows[question.under_attack]] = np.flatnonzero(question.under_attack)
        kept = np.array([column.classes.index(label) for label in question.classes])
        codes = column.codes[who].astype(np.int64)
        return cls(vectors[who], codes, len(column.classes), question, kept, places[who])

    @property
    def smallest_class(self) -> int:
        """Users who are judged in the class that has fewest of them."""
        return int(np.bincount(self.codes[self.places >= 0], minlength=self.classes)[self.kept].min())

    def answers(self, known: NDArray[np.bool_]) -> Answers:
        """Solve with the labels of the ``known`` (m,) users. There is no relabelling: the equations fix the sign."""
        users, scores = self._solve(self.codes, known)
        places, predicted = self.places[users], scores.argmax(axis=1)
        return Answers(0, places, predicted, predicted, auc(scores, self.question.codes[places]))

    def control(self, splits: list[NDArray[np.bool_]], seed: int) -> float:
        """Balanced accuracy of the same attack on shuffled labels, mean over the splits."""
        codes = np.random.default_rng([seed, 3]).permutation(self.codes)
        found = []
        for known in splits:
            users, scores = self._solve(codes, known)
            truth = np.searchsorted(self.kept, codes[users])
            found.append(balanced_accuracy(scores.argmax(axis=1), truth, len(self.kept)))
        return float(np.mean(found))

    def _solve(
        self, codes: NDArray[np.int64], known: NDArray[np.bool_]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        scores = moment_equation_attack(self.vectors, codes, known, self.classes)[:, self.kept]
        users = np.flatnonzero(~known)
        judged = (self.places[users] >= 0) & np.isin(codes[users], self.kept)
        return users[judged], scores[judged]
