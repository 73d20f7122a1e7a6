"""Gaussian noise: the control that every method has to beat."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attrcloak.errors import InvalidSettings
from attrcloak.progress import Progress
from attrcloak.unlearning.method import Moved, Rows


@dataclass(frozen=True, kw_only=True)
class GaussianNoise:
    """Add independent normal noise to every user who asked.

    Attributes:
        scale: standard deviation of the noise in each dimension, as a share of that dimension's own over the users who
            asked. A constant column stays constant.
    """

    name: ClassVar[str] = "noise"

    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.scale < 0:
            raise InvalidSettings(f"scale is {self.scale}, expected a number of at least 0")

    def move(self, rows: Rows, progress: Progress | None = None) -> Moved:
        """Add the noise; the same seed gives the same noise."""
        vectors = rows.vectors
        asked = vectors[rows.cells.moves]
        # The standard deviation of equal numbers can come out as 1e-16 of them, which standardising makes readable.
        spread = np.where(np.ptp(asked, axis=0) > 0, asked.std(axis=0), 0.0)
        noise = np.random.default_rng(rows.seed).normal(size=vectors.shape)
        return Moved(vectors + self.scale * spread * noise)
