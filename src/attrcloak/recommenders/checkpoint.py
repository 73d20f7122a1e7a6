"""How far a training has come, in one safetensors file: what an interrupted one is continued from."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrcloak.data.interactions import Split
from attrcloak.errors import InvalidInput, UnreadableFile
from attrcloak.whole_file import replacing

SCHEMA = "attrcloak/checkpoint/1"

States = dict[str, tuple[nn.Module, torch.optim.Optimizer]]
"""Everything that learns, by name: its parameters and its optimiser."""


@dataclass(frozen=True, eq=False)
class Progressed:
    """How far a training has come.

    Attributes:
        epoch: epochs done.
        history: NDCG@10 on the validation items after each check.
        best: the highest of them, -1 before the first.
        stale: checks since.
        best_state: parameters to be served if training ended now.
        seconds_before: wall time of the interrupted runs before this one.
    """

    epoch: int
    history: tuple[float, ...]
    best: float
    stale: int
    best_state: Mapping[str, Tensor]
    seconds_before: float = 0.0

    @classmethod
    def start(cls, model: nn.Module) -> "Progressed":
        """Before the first epoch."""
        return cls(0, (), -1.0, 0, copy.deepcopy(model.state_dict()))

    def after(self, epoch: int, reached: float | None, model: nn.Module, choose_best: bool) -> "Progressed":
        """After one more check.

        Args:
            epoch: epochs done by now.
            reached: NDCG@10 on the validation items, None when there are none.
            model: in its present state.
            choose_best: keep the best state and count checks without a new one; else the last state is kept.
        """
        history = self.history if reached is None else (*self.history, reached)
        if choose_best and reached is not None and reached <= self.best:
            return replace(self, epoch=epoch, history=history, stale=self.stale + 1)
        best = self.best if reached is None else max(self.best, reached)
        return replace(
            self, epoch=epoch, history=history, best=best, stale=0, best_state=copy.deepcopy(model.state_dict())
        )


def identity(
    name: str, settings: Mapping[str, Any], seed: int, split: Split, adversary: Mapping[str, Any]
) -> dict[str, Any]:
    """What two trainings must have in common for one to continue the other: plain values, data as SHA-256."""
    digest = hashlib.sha256()
    train = split.train
    for ids in (train.users, train.items):
        digest.update("\x00".join(str(value) for value in ids.values.tolist()).encode() + b"\x01")
    for rows in (train.user_rows, train.item_rows, split.validation_items):
        digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes() + b"\x01")
    return {
        "model": name,
        **{f"setting {key}": value for key, value in settings.items()},
        "seed": seed,
        "interactions": digest.hexdigest(),
        **{f"adversary {key}": value for key, value in adversary.items()},
    }


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The file of one training.

    Attributes:
        path: the file.
        identity: of the training, see ``identity``.
    """

    path: Path
    identity: Mapping[str, Any]

    def write(self, progressed: Progressed, learners: States, rng: np.random.Generator, seconds: float) -> None:
        """Write the state, whole or not at all; the folder is made when it is not there.

        Args:
            progressed: how far the training has come.
            learners: parameters and optimisers.
            rng: the generator of order and negatives.
            seconds: wall time so far, earlier runs included.
        """
        from safetensors.numpy import save_file

        arrays = {f"best/{key}": value.numpy() for key, value in progressed.best_state.items()}
        for name, (module, optimiser) in learners.items():
            arrays |= {f"{name}/{key}": value.numpy() for key, value in module.state_dict().items()}
            for index, slots in optimiser.state_dict()["state"].items():
                arrays |= {f"{name} optimiser/{index}/{slot}": value.numpy() for slot, value in slots.items()}
        description = {
            "schema": SCHEMA,
            "identity": self.identity,
            "epoch": progressed.epoch,
            "history": progressed.history,
            "best": progressed.best,
            "stale": progressed.stale,
            "seconds": seconds,
            "generator": rng.bit_generator.state,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as temporary:
            save_file(arrays, temporary, metadata={"training": json.dumps(description)})

    def read(self, learners: States, rng: np.random.Generator) -> Progressed:
        """Put parameters, optimisers and generator into the state of the file, and say how far it had come.

        Raises:
            UnreadableFile: not a checkpoint of this package, or cut short.
            InvalidInput: it is of another training; everything that differs is named.
        """
        from safetensors import SafetensorError, safe_open

        arrays: dict[str, Tensor] = {}
        try:
            with safe_open(self.path, framework="pt") as file:
                description = json.loads((file.metadata() or {}).get("training", "{}"))
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise UnreadableFile(f"{self.path} is not a whole checkpoint ({error}); delete it to start anew") from error
        if description.get("schema") != SCHEMA:
            raise UnreadableFile(f"{self.path} is not a checkpoint of a training; give another path")
        self._compare(description["identity"])
        for name, (module, optimiser) in learners.items():
            module.load_state_dict(_below(arrays, f"{name}/"))
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(arrays, f"{name} optimiser/").items():
                index, slot = key.split("/")
                slots.setdefault(int(index), {})[slot] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        rng.bit_generator.state = description["generator"]
        return Progressed(
            epoch=description["epoch"],
            history=tuple(description["history"]),
            best=description["best"],
            stale=description["stale"],
            best_state=_below(arrays, "best/"),
            seconds_before=description["seconds"],
        )

    def _compare(self, there: Mapping[str, Any]) -> None:
        here = json.loads(json.dumps(self.identity))
        problems = []
        for key in sorted(here.keys() | there.keys()):
            if key in here and key in there and here[key] == there[key]:
                continue
            known = key != "interactions" and not key.endswith("digest")
            values = f": {there.get(key)!r} there, {here.get(key)!r} here" if known else " differ"
            problems.append(f"{key}{values}")
        if problems:
            raise InvalidInput(
                [f"{self.path} is the checkpoint of another training; delete it or give another path", *problems]
            )


def _below(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
