"""``audit``: every attacker on every attribute and surface, side by side on the cores there are."""

import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attrcloak.attackers import ATTACKERS, Attacker
from attrcloak.auditing.attacks import Answers, attack, gather, permuted_control
from attrcloak.auditing.equations import Equations
from attrcloak.auditing.protocols import SOUND, Protocol, rotations
from attrcloak.auditing.questions import ASKED, Question, questions
from attrcloak.auditing.report import EQUATIONS, AttackResult, AuditReport
from attrcloak.auditing.surfaces import DELTA, VECTORS, Surface, surfaces
from attrcloak.data.attributes import UserAttributes
from attrcloak.data.embeddings import EmbeddingTable
from attrcloak.errors import InvalidInput, InvalidSettings, not_among
from attrcloak.progress import Progress

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Knows = Literal["everybody", "others"]
Judged = Literal["everybody", "requests"]

DEFAULT_ATTACKERS = ("logistic", "mlp", "xgboost")
PAPER_ATTACKERS = ("mlp", "xgboost")
MIN_USERS = 20
"""Least number of users in a class that an audit looks at."""


@dataclass(frozen=True, eq=False)
class _Case:
    """One line of the report before it is measured."""

    question: Question
    surface: str
    attacker: str
    known: float
    fits: tuple[Callable[[], Answers], ...]
    control: Callable[[], float]


def audit(
    table: EmbeddingTable,
    people: UserAttributes,
    *,
    attributes: Sequence[str] | None = None,
    attackers: Sequence[str | Attacker] | None = None,
    protocol: Protocol = SOUND,
    original: EmbeddingTable | None = None,
    lists: "Mapping[str, csr_array] | None" = None,
    history: "csr_array | None" = None,
    train_on: NDArray[np.bool_] | None = None,
    test_on: NDArray[np.bool_] | None = None,
    knows: Knows = "everybody",
    judged: Judged = "everybody",
    min_users: int = MIN_USERS,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Measure how well attackers read attributes from what they are given.

    All users whose class is known are attacked, whether they asked or not, unless ``judged`` says otherwise.
    Everything is computed in the order of the ids, so the order of the table's rows changes nothing. The same seed
    gives the same report, whatever ``workers`` is.

    The moment-equation attacker reads the vectors only. It assumes that the class moments over the users who asked
    equal those of all of them, solves once for each share of known labels, and has no relabelling to choose: its
    adaptive balanced accuracy is its balanced accuracy.

    Args:
        table: the vectors; frozen columns are not shown to attackers.
        people: attributes, joined by id; users who are not listed are unknown.
        attributes: which to attack; all by default.
        attackers: names among ``ATTACKERS``, or attackers of your own. By default logistic regression, MLP and
            XGBoost, and under the ``paper`` protocol MLP and XGBoost.
        protocol: ``SOUND`` or ``PAPER``, or one of your own.
        original: the table before; adds the surface "delta" (new vectors, and new less old), and, where not everybody
            asked, the attribute "asked" on vectors and delta.
        lists: by surface name, such as "top-n masked", (users, items) sparse, rows as in the table.
        history: (users, items) sparse, rows as in the table; adds the surface "history".
        train_on: (users,) rows an attacker may know, such as users who did not ask. All by default.
        test_on: (users,) rows attackers are measured on. All by default.
        knows: "others" lets attackers train, for each attribute, only on users who did not ask for it: they kept their
            vectors, so whoever knows them has clean examples. The moment equations keep their own: they are solved
            over those who asked.
        judged: "requests" measures, for each attribute, only on users who asked for it, and adds the attribute
            "asked" on the vectors: who asked, from the new table alone.
        min_users: classes with fewer known users, to train or to test on, are left out; at least 10, or 2 where the
            protocol quotes plain accuracy.
        seed: of splits, attackers, shuffles and intervals.
        workers: fits side by side; the number of cores by default.
        progress: called with (stage, done, total).

    Returns:
        The results and, in ``notes``, what was left out. Logistic regression reads lists and history as they are;
        the other attackers get their 64 leading components, found without labels.

    Raises:
        InvalidInput: no attribute has two classes with enough known users, or shapes and ids do not fit.
        InvalidSettings: an attacker that is not known, or a setting out of range.
        MissingExtra: XGBoost is asked for and not installed.
    """
    started = time.perf_counter()
    chosen = attackers_for(attackers, protocol)
    if knows not in get_args(Knows) or judged not in get_args(Judged):
        raise InvalidSettings(
            f"knows is {knows!r} and judged {judged!r}, expected one of {', '.join(get_args(Knows))} and one of "
            f"{', '.join(get_args(Judged))}"
        )
    # A mean over classes is only as good as its smallest one; plain accuracy hardly sees it.
    least = 10 if protocol.metric == "balanced_accuracy" else 2
    if min_users < least or (workers is not None and workers < 1):
        raise InvalidSettings(f"min_users is {min_users} and workers {workers}; they must be at least {least} and 1")
    names = people.names if attributes is None else tuple(attributes)
    order = np.argsort(table.ids.values, kind="stable")
    aligned = people.select(names).align(table.ids.take(order))
    asked, notes = questions(
        aligned,
        names,
        _mask(train_on, "train_on", len(table))[order],
        _mask(test_on, "test_on", len(table))[order],
        min_users,
        ask_who_asked=original is not None or judged == "requests",
        know_others_only=knows == "others",
        judge_requests_only=judged == "requests",
    )
    found = surfaces(table, order, original, lists, history)
    cases = [
        case
        for surface in found
        for question in asked
        if question.attribute != ASKED or surface.name in (VECTORS, DELTA)
        for case in _cases(surface, question, chosen, protocol, seed)
    ]
    for question in asked:
        if question.attribute != ASKED:
            equations = Equations.of(question, aligned[question.attribute], found[0].dense)
            more, note = _equation_cases(equations, protocol, seed, min_users)
            cases += more
            notes += note
    results = _measure(cases, protocol, seed, workers or os.cpu_count() or 1, progress)
    return AuditReport(
        protocol=protocol.to_json(),
        results=results,
        fingerprint=table.fingerprint(),
        seconds=time.perf_counter() - started,
        settings={
            "seed": seed,
            "min_users": min_users,
            "attackers": {attacker.name: _settings(attacker) for attacker in chosen},
            "train_on": None if train_on is None else int(np.sum(train_on)),
            "test_on": None if test_on is None else int(np.sum(test_on)),
            "knows": knows,
            "judged": judged,
            "versions": _versions(),
        },
        notes=tuple(notes),
    )


def attackers_for(wanted: Sequence[str | Attacker] | None, protocol: Protocol) -> list[Attacker]:
    """The attackers of an audit under a protocol, those that are named with the settings it asks for."""
    if wanted is None:
        wanted = DEFAULT_ATTACKERS if protocol.balanced else PAPER_ATTACKERS
    if isinstance(wanted, str):
        wanted = (wanted,)
    found: list[Attacker] = []
    for each in wanted:
        if not isinstance(each, str):
            found.append(each)
            continue
        if each not in ATTACKERS:
            raise InvalidSettings(not_among("there is no attacker", each, tuple(ATTACKERS)))
        kind: Any = ATTACKERS[each]
        wanted_settings = {"balanced": protocol.balanced, "standardise": protocol.standardise}
        known = {field.name for field in fields(kind)}
        found.append(kind(**{name: value for name, value in wanted_settings.items() if name in known}))
    twice = sorted({a.name for a in found if sum(b.name == a.name for b in found) > 1})
    if twice or not found:
        raise InvalidSettings(f"attackers need names of their own ({', '.join(twice) or 'none given'})")
    return found


def _mask(mask: NDArray[np.bool_] | None, name: str, users: int) -> NDArray[np.bool_]:
    if mask is None:
        return np.ones(users, dtype=bool)
    mask = np.asarray(mask)
    if mask.shape != (users,) or mask.dtype != bool:
        raise InvalidInput(f"{name} has shape {mask.shape} and type {mask.dtype}, expected ({users},) of bool")
    return mask


def _cases(
    surface: Surface, question: Question, attackers: Sequence[Attacker], protocol: Protocol, seed: int
) -> Iterable[_Case]:
    for known in protocol.known if surface.name == VECTORS else (max(protocol.known),):
        splits = [rotations(question.codes, known, protocol.folds, seed + s) for s in range(protocol.seeds)]
        for attacker in attackers:
            fits = tuple(
                partial(attack, attacker, surface, question, split, s, seed + s)
                for s, of_seed in enumerate(splits)
                for split in of_seed
            )
            control = partial(permuted_control, attacker, surface, question, splits[0], seed)
            yield _Case(question, surface.name, attacker.name, known, fits, control)


def _equation_cases(
    equations: Equations, protocol: Protocol, seed: int, min_users: int
) -> tuple[list[_Case], list[str]]:
    question = equations.question
    if protocol.equations_known and equations.smallest_class < min_users:
        return [], [f"{question.attribute}: no moment equations, since a class has fewer than {min_users} who asked"]
    cases = []
    for known in protocol.equations_known:
        # Few known: one split attacks nearly everybody. Many known: splits until everybody was attacked.
        splits = rotations(equations.codes, known, max(1, int(1 / (1 - known) + 1e-9)), seed)
        fits = tuple(partial(equations.answers, split) for split in splits)
        cases.append(_Case(question, VECTORS, EQUATIONS, known, fits, partial(equations.control, splits, seed)))
    return cases, []


def _measure(
    cases: Sequence[_Case], protocol: Protocol, seed: int, workers: int, progress: Progress | None
) -> tuple[AttackResult, ...]:
    """Run all fits in threads: the heavy parts of every attacker run outside the interpreter's lock."""
    # Loaded before the limit is set, or it would not reach the libraries they bring.
    import scipy.linalg  # noqa: F401
    import sklearn.neighbors  # noqa: F401
    from threadpoolctl import threadpool_limits

    jobs: list[tuple[int, int, Callable[[], Any]]] = []
    for place, case in enumerate(cases):
        jobs += [(place, turn, fit) for turn, fit in enumerate((*case.fits, case.control))]
    # Turn by turn, so that long and short fits of all attackers run side by side.
    jobs.sort(key=lambda job: job[1])
    answers: list[list[Any]] = [[None] * (len(case.fits) + 1) for case in cases]
    with warnings.catch_warnings(), threadpool_limits(1), ThreadPoolExecutor(workers) as pool:
        # A fit that stopped at its last step is still an attack; its settings are fixed and reported.
        warnings.filterwarnings("ignore", category=Warning, module="sklearn")
        running: dict[Future[Any], tuple[int, int]] = {pool.submit(job): (case, turn) for case, turn, job in jobs}
        try:
            for done, future in enumerate(as_completed(running)):
                place, turn = running[future]
                answers[place][turn] = future.result()
                if progress is not None:
                    progress("attacking", done + 1, len(jobs))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return tuple(
        gather(case.question, case.surface, case.attacker, case.known, found[:-1], found[-1], protocol, seed)
        for case, found in zip(cases, answers, strict=True)
    )


def _settings(attacker: Attacker) -> dict[str, Any]:
    try:
        values = asdict(attacker)  # type: ignore[call-overload]
    except TypeError:  # an attacker of somebody's own that is no dataclass
        return {"repr": repr(attacker)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _versions() -> dict[str, str]:
    found = {}
    for name in ("attrcloak", "numpy", "scipy", "scikit-learn", "xgboost-cpu", "xgboost"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
