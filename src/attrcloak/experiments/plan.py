"""What an experiment runs, read from TOML and checked before anything is trained."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, Literal

from attrcloak.attackers import ATTACKERS
from attrcloak.data.datasets import NAMES as DATASETS
from attrcloak.errors import InvalidInput, InvalidSettings, MissingExtra, UnreadableFile, not_among
from attrcloak.evaluation import METRICS as UTILITY_METRICS
from attrcloak.recommenders import MODELS, model_class
from attrcloak.recommenders.protected import PROTECTED, protected_class
from attrcloak.unlearning import METHODS

Measure = Literal["attacks", "utility", "seconds", "shapes"]
MEASURES: tuple[Measure, ...] = ("attacks", "utility", "seconds", "shapes")
PROTOCOLS = ("paper", "sound")
METHOD_NAMES = ("original", *METHODS, *PROTECTED)
ATTACK_METRICS = {"paper": ("accuracy",), "sound": ("balanced_accuracy", "adaptive_balanced_accuracy")}
"""What is quoted from an attack under each protocol."""

QUICK_FIELDS = ("seeds", "datasets", "protocols", "methods", "attackers", "backbones", "settings", "grid")
LISTS = ("measures", "metrics", "datasets", "backbones", "methods", "attackers", "protocols", "attributes")
"""Fields of a plan that are lists of names."""

TABLES = ("table1", "table2", "table4", "table5", "table6", "table7", "fig4", "fig5", "fig6")


@dataclass(frozen=True)
class Variant:
    """A recommender or a method at one point of its grid.

    Attributes:
        name: of the recommender or method.
        settings: fields to set; the rest keep their defaults.
        label: the settings that vary, such as "factors=64"; empty where none does.
    """

    name: str
    settings: Mapping[str, Any]
    label: str = ""

    def resolved(self) -> dict[str, Any]:
        """All settings, defaults included; none for the original."""
        if self.name == "original":
            return {}
        value = settings_class(self.name)(**self.settings)
        return {each.name: getattr(value, each.name) for each in fields(value)}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A grid. See ``experiments/`` for one a table of the paper.

    Attributes:
        title: what the table or figure shows.
        table: name of the published table the numbers are put beside; empty for an experiment of one's own.
        measures: what is tabled: attacks, utility, seconds, shapes (histograms of single dimensions).
        metrics: utility metrics and attack metrics tabled; empty takes all of the protocol.
        datasets: names that ``load_dataset`` knows.
        backbones: recommenders.
        methods: names of methods and protections, "original" for none.
        attackers: names among ``ATTACKERS``.
        protocols: "paper" (trained on all interactions, train-fit utility, one 20/80 split, plain accuracy) and
            "sound" (leave-one-out, 80 % of labels known, balanced accuracy).
        seeds: redraws of split, model, key and attackers: 0, 1, ...
        attributes: which to unlearn together; all of the data set where empty.
        settings: by where they hold, then by recommender or method: fields to set. "both" holds everywhere, "paper" and
            "sound" in that protocol, "paper on ml-1m" in that protocol on that data set; the narrower goes first.
        grid: by recommender or method, then by field: values to try, one variant each.
        quick: what changes for a short run: ``settings`` are merged into those above, other fields take their place.
    """

    title: str
    table: str = ""
    measures: tuple[Measure, ...] = ("attacks", "utility", "seconds")
    metrics: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ("ml-100k",)
    backbones: tuple[str, ...] = ("als",)
    methods: tuple[str, ...] = ("original", "attrcloak-df", "calibrated")
    attackers: tuple[str, ...] = ("xgboost", "mlp", "random")
    protocols: tuple[str, ...] = ("paper", "sound")
    seeds: int = 3
    attributes: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    grid: Mapping[str, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in LISTS:
            value = getattr(self, name)
            if isinstance(value, list | tuple):
                object.__setattr__(self, name, tuple(value))
        # Each check relies on what those before it found in order.
        for check in (
            self._fields_of_the_wrong_kind,
            self._names_that_do_not_exist,
            self._settings_that_do_not_exist,
            self._settings_out_of_range,
        ):
            problems = check()
            if problems:
                raise InvalidInput(problems)
        if self.quick:
            self.quickened()

    def quickened(self) -> "Plan":
        """The short run of this plan."""
        changes: dict[str, Any] = {}
        for name, value in self.quick.items():
            if name == "settings":
                merged = {scope: {n: dict(v) for n, v in of.items()} for scope, of in self.settings.items()}
                for scope, of in value.items():
                    for entry, chosen in of.items():
                        merged.setdefault(scope, {}).setdefault(entry, {}).update(chosen)
                value = merged
            changes[name] = value
        changes.setdefault("title", f"{self.title}, short run")
        return _built({**{f.name: getattr(self, f.name) for f in fields(self)}, **changes, "quick": {}}, self.title)

    def narrowed(self, **chosen: Sequence[str] | int | None) -> "Plan":
        """The same plan with some fields replaced; None leaves one as it is."""
        return replace(self, **{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]

    def variants_of(self, names: Sequence[str], protocol: str, dataset: str) -> list[Variant]:
        """All variants of several recommenders or methods under a protocol on a data set."""
        return [variant for name in names for variant in self.variants(name, protocol, dataset)]

    def variants(self, name: str, protocol: str, dataset: str) -> list[Variant]:
        """Every point of the grid of a recommender or method, in the order of the file."""
        fixed: dict[str, Any] = {}
        for scope in ("both", protocol, f"{protocol} on {dataset}"):
            fixed.update(self.settings.get(scope, {}).get(name, {}))
        axes = self.grid.get(name, {})
        found = []
        for values in product(*axes.values()):
            point = dict(zip(axes, values, strict=True))
            label = ", ".join(f"{key}={value}" for key, value in point.items())
            found.append(Variant(name, {**fixed, **point}, label))
        return found

    def _fields_of_the_wrong_kind(self) -> list[str]:
        problems = [
            f"{name} is {value!r}, expected a table"
            for name, value in (("grid", self.grid), ("quick", self.quick))
            if not isinstance(value, Mapping)
        ]
        if problems:
            return problems
        if not isinstance(self.title, str):
            problems.append(f"title is {self.title!r}, expected text")
        for name in LISTS:
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(entry, str) for entry in value):
                problems.append(f"{name} is {value!r}, expected a list of names")
        if not isinstance(self.seeds, int) or self.seeds < 1:
            problems.append(f"seeds is {self.seeds!r}, expected a whole number of at least 1")
        for name, axes in self.grid.items():
            if not isinstance(axes, Mapping):
                problems.append(f"grid.{name} is {axes!r}, expected settings with a list of values each")
                continue
            problems += [
                f"grid.{name}.{key} is {values!r}, expected a list of values"
                for key, values in axes.items()
                if not isinstance(values, list | tuple) or not values
            ]
        for place, settings in (("settings", self.settings), ("quick.settings", self.quick.get("settings", {}))):
            if not isinstance(settings, Mapping):
                problems.append(f"{place} is {settings!r}, expected a table")
                continue
            problems += [
                f"{place}.{scope} is {of!r}, expected a table of settings for each name"
                for scope, of in settings.items()
                if not isinstance(of, Mapping) or not all(isinstance(values, Mapping) for values in of.values())
            ]
        return problems

    def _names_that_do_not_exist(self) -> list[str]:
        choices: dict[str, Sequence[str]] = {
            "measures": MEASURES,
            "backbones": MODELS,
            "methods": METHOD_NAMES,
            "attackers": tuple(ATTACKERS),
            "protocols": PROTOCOLS,
        }
        problems = [f"{name} is empty" for name in ("datasets", *choices) if not getattr(self, name)]
        for name, known in choices.items():
            problems += [f"{name}: {twice!r} stands more than once" for twice in _repeated(getattr(self, name))]
            problems += [not_among(f"{name}: no", entry, known) for entry in getattr(self, name) if entry not in known]
        datasets = dict.fromkeys((*DATASETS, *self.datasets))
        scopes = ("both", *PROTOCOLS, *(f"{protocol} on {name}" for protocol in PROTOCOLS for name in datasets))
        problems += [not_among("settings for", scope, scopes) for scope in self.settings if scope not in scopes]
        metrics = (*UTILITY_METRICS, *ATTACK_METRICS["paper"], *ATTACK_METRICS["sound"])
        problems += [not_among("metrics: no", entry, metrics) for entry in self.metrics if entry not in metrics]
        problems += [
            not_among("quick: no field", name, QUICK_FIELDS) for name in self.quick if name not in QUICK_FIELDS
        ]
        return problems

    def _settings_out_of_range(self) -> list[str]:
        problems = []
        for protocol, dataset in product(self.protocols, self.datasets):
            for variant in self.variants_of((*self.backbones, *self.methods), protocol, dataset):
                try:
                    variant.resolved()
                except InvalidSettings as error:
                    problems.append(f"{variant.name} ({protocol}): {error}")
                except TypeError:
                    given = ", ".join(f"{key} = {value!r}" for key, value in variant.settings.items())
                    problems.append(f"{variant.name} ({protocol}): a value is of the wrong kind ({given})")
                except MissingExtra:
                    continue  # said when it is trained; a plan can be read without it
        return list(dict.fromkeys(problems))

    def _settings_that_do_not_exist(self) -> list[str]:
        named: list[tuple[str, Iterable[str]]] = [(name, axes) for name, axes in self.grid.items()]
        named += [(name, of) for scope in self.settings.values() for name, of in scope.items()]
        problems = []
        for name, keys in named:
            if name not in (*MODELS, *METHOD_NAMES[1:]):
                problems.append(not_among("settings for", name, (*MODELS, *METHOD_NAMES[1:])))
                continue
            try:
                known = [f.name for f in fields(settings_class(name))]
            except MissingExtra:
                continue
            problems += [not_among(f"{name} has no setting", key, known) for key in keys if key not in known]
        return problems


def settings_class(name: str) -> type[Any]:
    """The class whose fields are the settings of a recommender, method or protection."""
    if name in METHODS:
        return METHODS[name]
    return protected_class(name) if name in PROTECTED else model_class(name)


def read_plan(path: Path) -> Plan:
    """Read and check a plan.

    Raises:
        UnreadableFile: the file is missing or not TOML.
        InvalidInput: a field, name or setting that does not exist; all of them in one error.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableFile(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnreadableFile(f"{path} cannot be read as TOML: {error}") from error
    plan = _built(content, str(path))
    # Only here: options narrow the methods of a plan and leave its grid.
    idle = [name for name in plan.grid if name not in (*plan.methods, *plan.backbones)]
    if idle:
        raise InvalidInput(
            [f"{path}: grid.{name} has values to try, and {name} is not among the methods" for name in idle]
        )
    return plan


def plan_of_table(name: str) -> Plan:
    """The plan that comes with this package for a table or figure of the paper."""
    if name not in TABLES:
        raise InvalidSettings(not_among("there is no table", name, TABLES))
    shipped = Path(str(files("attrcloak.experiments"))) / "plans"
    in_checkout = Path(__file__).resolve().parents[3] / "experiments"
    return read_plan((shipped if shipped.is_dir() else in_checkout) / f"{name}.toml")


def _built(content: Mapping[str, Any], where: str) -> Plan:
    known = [f.name for f in fields(Plan)]
    problems = [not_among(f"{where}: no field", name, known) for name in content if name not in known]
    if "title" not in content:
        problems.append(f"{where}: title is missing")
    if problems:
        raise InvalidInput(problems)
    try:
        return Plan(**content)
    except InvalidInput as error:
        raise InvalidInput([f"{where}: {problem}" for problem in error.problems]) from error


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if names.count(name) > 1]
