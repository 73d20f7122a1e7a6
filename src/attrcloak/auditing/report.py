"""What an audit found, with the controls to read it by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from attrcloak.errors import InvalidInput, InvalidSettings

SCHEMA = "attrcloak/audit/1"
EQUATIONS = "moment-equation"
"""The attacker that solves the moment equations, as reports call it."""


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """One attacker on one attribute, surface and share of known labels.

    Attributes:
        attribute: its name; "asked" where the question is who asked.
        attacker: its name.
        surface: what it was given.
        known: share of users whose class it knew, in (0, 1).
        balanced_accuracy: mean over classes of the share found, over seeds and rotations.
        ci: 95 % interval of it.
        auc: one class against the rest, mean over classes, rotations and seeds.
        accuracy: plain share of right answers: compare with ``majority`` and ``sum_of_squares``.
        chance: 1/K.
        majority: share of the largest class.
        leakage: |balanced_accuracy - chance|.
        adaptive_balanced_accuracy: after the best one-to-one relabelling, chosen on users the attacker knew.
        permutation_p: share of label shuffles met as well as the labels, from either side.
        sum_of_squares: sum of squared class shares, the accuracy of guessing in proportion.
        permuted_balanced_accuracy: the same attack, fitted again with shuffled labels.
        users: users under attack.
        classes: names of the K classes.
    """

    attribute: str
    attacker: str
    surface: str
    known: float
    balanced_accuracy: float
    ci: tuple[float, float]
    auc: float
    accuracy: float
    chance: float
    majority: float
    leakage: float
    adaptive_balanced_accuracy: float
    permutation_p: float
    sum_of_squares: float
    permuted_balanced_accuracy: float
    users: int
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "ci": list(self.ci), "classes": list(self.classes)}


@dataclass(frozen=True)
class AuditReport:
    """All results of an audit. It speaks of these attackers on these users; stronger ones may read more.

    Attributes:
        protocol: name, known shares, folds, seeds, metric and the rest of the protocol.
        results: by surface, attribute, attacker and share of known labels.
        fingerprint: of the table.
        seconds: wall time.
        settings: seed, attackers with their settings, versions.
        notes: what was left out or restricted, by name.
    """

    protocol: Mapping[str, Any]
    results: tuple[AttackResult, ...]
    fingerprint: str
    seconds: float
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain values, with the schema's version; ``json.dumps`` takes them as they are."""
        return {
            "schema": SCHEMA,
            "protocol": dict(self.protocol),
            "results": [result.to_json() for result in self.results],
            "fingerprint": self.fingerprint,
            "seconds": self.seconds,
            "settings": dict(self.settings),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "AuditReport":
        """The report that ``to_json`` was made from.

        Raises:
            InvalidInput: another schema, or fields missing.
        """
        if values.get("schema") != SCHEMA:
            raise InvalidInput(f"the report has schema {values.get('schema')!r}, expected {SCHEMA!r}")
        names = [field.name for field in fields(AttackResult)]
        missing = sorted({name for result in values.get("results", []) for name in names if name not in result})
        missing += [
            name for name in ("protocol", "results", "fingerprint", "seconds", "settings") if name not in values
        ]
        if missing:
            raise InvalidInput(f"the report lacks: {', '.join(missing)}")
        results = []
        for result in values["results"]:
            found: dict[str, Any] = {name: result[name] for name in names}
            results.append(AttackResult(**{**found, "ci": tuple(found["ci"]), "classes": tuple(found["classes"])}))
        return cls(
            values["protocol"],
            tuple(results),
            values["fingerprint"],
            values["seconds"],
            values["settings"],
            tuple(values.get("notes", ())),
        )

    def best(self, attribute: str, surface: str = "vectors") -> AttackResult:
        """The attacker who reads most: by balanced accuracy, relabelled or not.

        Raises:
            InvalidInput: the attribute was not attacked on that surface.
        """
        found = [result for result in self.results if (result.attribute, result.surface) == (attribute, surface)]
        if not found:
            there = sorted({f"{result.attribute} on {result.surface}" for result in self.results})
            raise InvalidInput(f"there is no result for {attribute!r} on {surface!r}; there are: {', '.join(there)}")
        return max(found, key=lambda result: max(result.balanced_accuracy, result.adaptive_balanced_accuracy))

    def breaks(self, gates: Mapping[str, float]) -> list[str]:
        """Which attackers on the vectors break which limits, from either side.

        With chance 1/K, a limit of ``chance + x`` on balanced accuracy is broken above ``chance + x`` and below
        ``chance - x``, and by an adaptive attacker above ``chance + x``. The moment equations break it above only: they
        fall below chance where their assumption is false, as on any table that was left alone.

        Args:
            gates: limit for each attribute, between its chance and 1.

        Returns:
            One sentence for each result that breaks its limit; empty when all limits hold.

        Raises:
            InvalidInput: a limit on an attribute that was not attacked.
            InvalidSettings: a limit at or below chance, or above 1.
        """
        broken = []
        for attribute, limit in gates.items():
            chance = self.best(attribute).chance
            if not chance < limit <= 1:
                raise InvalidSettings(
                    f"the limit on {attribute} is {limit:g}, expected more than chance ({chance:.3f})"
                )
            for result in self.results:
                if (result.attribute, result.surface) != (attribute, "vectors"):
                    continue
                who = f"{attribute}: {result.attacker} with {result.known:.0%} of labels known"
                low = 2 * chance - limit
                if result.balanced_accuracy > limit:
                    broken.append(f"{who} has balanced accuracy {result.balanced_accuracy:.3f}, above {limit:.3f}")
                elif result.balanced_accuracy < low and result.attacker != EQUATIONS:
                    broken.append(
                        f"{who} has balanced accuracy {result.balanced_accuracy:.3f}, as far below chance as "
                        f"{limit:.3f} is above it (limit {low:.3f})"
                    )
                elif result.adaptive_balanced_accuracy > limit:
                    broken.append(
                        f"{who} has balanced accuracy {result.adaptive_balanced_accuracy:.3f} after relabelling its "
                        f"answers, above {limit:.3f}"
                    )
        return broken

    def __str__(self) -> str:
        """A table of text, one line a result, and the notes."""
        head = (
            "attribute", "surface", "attacker", "known", "balanced accuracy", "95 % interval", "adaptive", "AUC",
            "accuracy", "majority", "sum of squares", "permuted", "p", "chance",
        )  # fmt: skip
        rows = [
            (
                r.attribute, r.surface, r.attacker, f"{r.known:.0%}", f"{r.balanced_accuracy:.3f}",
                f"{r.ci[0]:.3f} .. {r.ci[1]:.3f}", f"{r.adaptive_balanced_accuracy:.3f}", f"{r.auc:.3f}",
                f"{r.accuracy:.3f}", f"{r.majority:.3f}", f"{r.sum_of_squares:.3f}",
                f"{r.permuted_balanced_accuracy:.3f}", f"{r.permutation_p:.3f}", f"{r.chance:.3f}",
            )
            for r in self.results
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in (head, *rows)]
        lines.insert(1, "  ".join("-" * width for width in widths))
        about = f"protocol {self.protocol['name']}, {self.seconds:.1f} s; against these attackers, on these users"
        return "\n".join([*(line.rstrip() for line in lines), about, *(f"note: {note}" for note in self.notes)])
