"""RAP: a recommender trained against attackers that are trained beside it."""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from attrcloak.data.attributes import UNKNOWN, UserAttributes
from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidInput, InvalidSettings, NotSupported
from attrcloak.progress import Progress
from attrcloak.recommenders import configured
from attrcloak.recommenders.recommender import Recommender
from attrcloak.recommenders.training import Tensor, TrainingSettings, Vectors, nn, seeded, torch


@dataclass(frozen=True, kw_only=True)
class RAP:
    """Recommendation with attribute protection by adversarial training (Beigi et al., WSDM 2020).

    min over the recommender, max over one attacker an attribute of L_BPR - alpha * mean_t CE_t, with CE_t the
    cross-entropy of attacker t, a multilayer perceptron, on the vectors of the users who asked. The two sides take
    turns: in each step of the recommender the attackers first take ``attacker_steps`` of their own on the same users.

    Training runs all epochs of the recommender and serves the last state, see ``Adversary``. Users who did not ask do
    not enter the attackers' loss; they are reached by it only through the item vectors that all users share.

    Not promised: anything against attackers of another kind than the ones it was trained with. The cross-entropy to be
    raised has no upper bound, so vectors are pushed to where these attackers answer wrongly and not to where there is
    nothing to read. What comes of it depends on who is faster. Attackers that learn at least as fast as the recommender
    force it to give up information, at a cost in utility. Slow ones are left behind: they end at the share of the
    largest class, while the push itself, which differs by class, is there for everybody else to read; fresh attackers
    then read far more than from the recommender without protection. ``RAP.paper()`` is of the second kind.

    Attributes:
        alpha: weight of the attackers' mean cross-entropy against the BPR loss; the plain sum by default.
        hidden: widths of the attackers' hidden layers; two of them, the form of the audit's MLP.
        attacker_learning_rate: of their Adam; that of the audit's MLP by default, which keeps up with the recommenders
            at their defaults.
        attacker_steps: their steps in each step of the recommender; one each, as in alternating gradient descent.
    """

    name: ClassVar[str] = "rap"

    alpha: float = 1.0
    hidden: tuple[int, ...] = (128, 64)
    attacker_learning_rate: float = 2e-3
    attacker_steps: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not self.alpha >= 0:
            raise InvalidSettings(f"alpha is {self.alpha}, expected 0 or more")
        for name in ("attacker_learning_rate", "attacker_steps"):
            if not getattr(self, name) > 0:
                raise InvalidSettings(f"{name} is {getattr(self, name)}, expected more than 0")
        if not all(width > 0 for width in self.hidden):
            raise InvalidSettings(f"hidden is {self.hidden}, expected widths of more than 0")

    @classmethod
    def paper(cls) -> "RAP":
        """Attackers with the one rate of Adam that Wu et al. (ICDE 2025) print, 1e-4; they state no other setting.

        Beside a recommender that learns faster it shows what their table shows: trained attackers that fail, and fresh
        ones that read more than before.
        """
        return cls(attacker_learning_rate=1e-4)

    def fit(
        self,
        backbone: str,
        split: Split,
        people: UserAttributes,
        *,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
        checkpoints: Path | None = None,
    ) -> Recommender:
        """Train recommender and attackers; see ``ProtectedModel``.

        Raises:
            NotSupported: the backbone is not trained by torch, so no loss can be added to its own.
            InvalidInput: nobody asked for anything.
        """
        model = configured(backbone, settings)
        if not isinstance(model, TrainingSettings):
            raise NotSupported(
                f"RAP adds a loss to the training of the recommender, and {backbone!r} is fitted by a library that "
                "takes none; use bpr-mf, ncf or lightgcn"
            )
        aligned = people.align(split.train.users)
        codes = torch.from_numpy(aligned.marked_codes()).long()
        if not (codes != UNKNOWN).any():
            raise InvalidInput(
                f"none of the {len(codes)} users has a known class and a request for {', '.join(people.names)}; there "
                "is nothing to protect"
            )
        classes = [len(aligned[name].classes) for name in aligned.names]
        # The attackers' initial values are drawn apart from the recommender's, which start as without protection.
        networks = seeded(
            seed + 1, lambda: nn.ModuleList(perceptron(model.factors, self.hidden, count) for count in classes)
        )
        attackers = Attackers(self, networks, codes)
        checkpoint = None if checkpoints is None else checkpoints / "recommender.safetensors"
        trained = model.fit(split, seed, progress, checkpoint, attackers)
        read = attackers.accuracy(torch.from_numpy(trained.users.vectors.copy()))
        protection = {
            "name": self.name,
            **asdict(self),
            "own attackers' accuracy": dict(zip(aligned.names, read, strict=True)),
        }
        return replace(trained, settings={**trained.settings, "protection": protection})


def perceptron(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """A multilayer perceptron with ReLU between its layers."""
    widths = (inputs, *hidden, outputs)
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Attackers:
    """One network an attribute, and what they do in a step of the recommender. See ``training.Adversary``."""

    def __init__(self, settings: RAP, networks: nn.Module, codes: Tensor) -> None:
        """``networks`` is a list of one network an attribute, ``codes`` (U, A) the classes of who asked, else -1."""
        self.settings = settings
        self.networks = networks
        self.codes = codes
        self.optimiser: torch.optim.Optimizer = torch.optim.Adam(
            networks.parameters(), lr=settings.attacker_learning_rate
        )

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its settings, and the classes of who asked as SHA-256."""
        return {**asdict(self.settings), "people digest": hashlib.sha256(self.codes.numpy().tobytes()).hexdigest()}

    def loss(self, vectors: Vectors, users: Tensor) -> Tensor:
        """Let the attackers learn, then give -alpha times their mean cross-entropy on the vectors as they are."""
        present = torch.unique(users)
        present = present[(self.codes[present] != UNKNOWN).any(dim=1)]
        if len(present) == 0:
            return torch.zeros(())
        read, codes = vectors.user_vectors(present), self.codes[present]
        for _ in range(self.settings.attacker_steps):
            self.optimiser.zero_grad()
            torch.autograd.backward(self.cross_entropy(read.detach(), codes))
            self.optimiser.step()
        self.networks.requires_grad_(False)  # the recommender's gradient is not the attackers' to keep
        against = -self.settings.alpha * self.cross_entropy(read, codes)
        self.networks.requires_grad_(True)
        return against

    def cross_entropy(self, read: Tensor, codes: Tensor) -> Tensor:
        """Mean over the attributes that somebody here asked for of the mean cross-entropy over who did, in nats."""
        networks: Any = self.networks
        losses = [
            nn.functional.cross_entropy(network(read), wanted, ignore_index=UNKNOWN)
            for network, wanted in zip(networks, codes.T, strict=True)
            if (wanted != UNKNOWN).any()
        ]
        return torch.stack(losses).mean()

    def accuracy(self, table: Tensor) -> list[float | None]:
        """For each attribute, the share of who asked whose class its attacker names from (U, d) vectors.

        They have seen these very users, so this is no audit. None where nobody asked.
        """
        networks: Any = self.networks
        found: list[float | None] = []
        for network, wanted in zip(networks, self.codes.T, strict=True):
            asked = wanted != UNKNOWN
            with torch.no_grad():
                right = network(table[asked]).argmax(dim=1) == wanted[asked]
            found.append(float(right.float().mean()) if bool(asked.any()) else None)
        return found
