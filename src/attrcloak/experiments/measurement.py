"""What a cell of an experiment is, and what it came to: plain values that go into a file and come back."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from attrcloak.errors import InvalidInput
from attrcloak.experiments.plan import Variant

SCHEMA = "attrcloak/cell/1"


@dataclass(frozen=True)
class Cell:
    """What one measurement is of.

    Attributes:
        dataset: name.
        data: fingerprint of its interactions and people.
        protocol: "paper" or "sound".
        backbone: recommender and settings.
        method: method or protection and settings.
        attributes: unlearned together; empty for all of the data set.
        attackers: names.
        seed: of split, model, key and attackers.
    """

    dataset: str
    data: str
    protocol: str
    backbone: Variant
    method: Variant
    attributes: tuple[str, ...]
    attackers: tuple[str, ...]
    seed: int

    @property
    def title(self) -> str:
        """What is measured, in words."""
        parts = (self.method.name, self.method.label, "on", self.backbone.name, self.backbone.label)
        return f"{' '.join(part for part in parts if part)}, {self.protocol}, seed {self.seed}"

    @property
    def model(self) -> str:
        """File name of the trained recommender, the same for all cells that share it."""
        return self._named(self.backbone.name, [self.backbone.resolved()])

    @property
    def file(self) -> str:
        """File name of the measurement: readable, and another one when data, settings or attackers are."""
        settings = [self.backbone.resolved(), self.method.resolved(), self.attributes, self.attackers]
        return self._named(f"{self.backbone.name}-{self.method.name}", settings)

    def _named(self, what: str, settings: Sequence[Any]) -> str:
        text = json.dumps([SCHEMA, self.data, settings], sort_keys=True, default=list)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{self.dataset}-{self.protocol}-{what}-s{self.seed}-{digest}"


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a cell came to, in plain values.

    Attributes:
        cell: what it is of.
        attacks: one entry an attribute and attacker, as in an audit report, on the vectors.
        utility: "protocol", the four metrics and their "ci" over users.
        seconds: of the method; of the whole training for protections; 0 for the original.
        training_seconds: of the recommender without any protection.
        details: stop reason, steps, objective, relative move, what a protection spent, and versions.
        shapes: histograms of single dimensions by class.
    """

    cell: Cell
    attacks: tuple[Mapping[str, Any], ...]
    utility: Mapping[str, Any]
    seconds: float
    training_seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Measurement":
        """What ``to_json`` was made from.

        Raises:
            InvalidInput: another schema.
        """
        if content.get("schema") != SCHEMA:
            raise InvalidInput(f"the schema is {content.get('schema')!r}, expected {SCHEMA!r}")
        values = {name: value for name, value in content.items() if name != "schema"}
        cell = dict(values.pop("cell"))
        cell.update({name: Variant(**cell[name]) for name in ("backbone", "method")})
        cell.update({name: tuple(cell[name]) for name in ("attributes", "attackers")})
        return cls(Cell(**cell), tuple(values.pop("attacks")), **values)
