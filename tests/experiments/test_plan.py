"""A plan says what runs, and says at once what is wrong with it."""

import tomllib
from pathlib import Path

import pytest

from attrcloak.errors import InvalidInput, InvalidSettings, UnreadableFile
from attrcloak.experiments import TABLES, Plan, plan_of_table, read_plan
from attrcloak.experiments.plan import settings_class

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@pytest.mark.parametrize("name", TABLES)
def test_every_table_of_the_paper_has_a_plan_and_a_short_version(name):
    plan = plan_of_table(name)
    assert plan.table == name
    quick = plan.quickened()
    assert (quick.seeds, quick.protocols, quick.quick) == (1, ("paper",), {})
    assert quick.variants_of(quick.methods, "paper", "ml-100k")
    # A short run of the other protocol is as short.
    short, long = ([v.settings for v in quick.variants_of(quick.backbones, p, "ml-100k")] for p in ("sound", "paper"))
    assert short == long


def test_tables_that_share_cells_have_the_same_settings():
    """Tables IV, V and VI are three views of one run: where their settings parted, each would train anew."""
    plans = [plan_of_table(name) for name in ("table4", "table5", "table6")]
    for other in plans[1:]:
        assert (other.settings, other.methods, other.attackers) == (
            plans[0].settings,
            plans[0].methods,
            plans[0].attackers,
        )


@pytest.mark.parametrize("name", TABLES)
def test_methods_run_with_their_settings_of_the_paper(name):
    """Where a class says what the paper's settings are, every plan has them; the DD floor is explained in the plans."""
    plan = plan_of_table(name)
    for method in set(plan.methods) & {"attrcloak-df", "u2u-r", "d2d-r", "rap"}:
        wanted = settings_class(method).paper()
        for variant in plan.variants(method, "paper", "ml-100k"):
            found = settings_class(method)(
                **{**variant.settings, **({"weight": "mgda"} if "weight" in variant.settings else {})}
            )
            assert found == wanted


def test_all_problems_come_in_one_error():
    with pytest.raises(InvalidInput) as error:
        Plan(title="x", methods=("orignal",), backbones=("asl",), attackers=("mlp", "xgbost"), protocols=("loud",))
    text = str(error.value)
    for hint in ("'original'", "'als'", "'xgboost'", "'loud'"):
        assert hint in text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"both": {"als": {"factor": 8}}}, "als has no setting 'factor'; did you mean 'factors'"),
        ({"both": {"alz": {"factors": 8}}}, "settings for 'alz'"),
        ({"always": {"als": {"factors": 8}}}, "settings for 'always'"),
    ],
)
def test_settings_that_do_not_exist_are_named(settings, message):
    with pytest.raises(InvalidInput, match=message):
        Plan(title="x", settings=settings)


def test_the_grid_gives_every_point_a_label_and_the_protocol_its_settings():
    plan = Plan(
        title="x",
        settings={"both": {"noise": {"scale": 9.0}}, "paper": {"als": {"factors": 4}}},
        grid={"noise": {"scale": [0.5, 2.0]}},
    )
    assert [(v.label, v.settings) for v in plan.variants("noise", "sound", "ml-100k")] == [
        ("scale=0.5", {"scale": 0.5}),
        ("scale=2.0", {"scale": 2.0}),
    ]
    assert [v.settings for v in plan.variants("als", "paper", "ml-100k")] == [{"factors": 4}]
    assert [v.settings for v in plan.variants("als", "sound", "ml-100k")] == [{}]


def test_a_short_run_merges_its_settings_into_the_long_one():
    plan = Plan(
        title="x",
        settings={"paper": {"als": {"factors": 64, "iterations": 15}}},
        quick={"seeds": 1, "settings": {"paper": {"als": {"iterations": 2}}}},
    )
    quick = plan.quickened()
    assert quick.settings["paper"]["als"] == {"factors": 64, "iterations": 2}
    assert plan.settings["paper"]["als"]["iterations"] == 15


def test_bad_files_are_told_apart(tmp_path):
    with pytest.raises(UnreadableFile, match="absent"):
        read_plan(tmp_path / "absent.toml")
    (tmp_path / "broken.toml").write_text("title = ")
    with pytest.raises(UnreadableFile, match="TOML"):
        read_plan(tmp_path / "broken.toml")
    (tmp_path / "strange.toml").write_text('titel = "x"\nseed = 3\n')
    with pytest.raises(InvalidInput, match=r"did you mean 'title'(?s:.*)'seeds'(?s:.*)title is missing"):
        read_plan(tmp_path / "strange.toml")
    (tmp_path / "idle.toml").write_text('title = "x"\nmethods = ["original"]\n[grid.noise]\nscale = [1.0]\n')
    with pytest.raises(InvalidInput, match=r"grid\.noise has values to try, and noise is not among"):
        read_plan(tmp_path / "idle.toml")
    (tmp_path / "text.toml").write_text('title = "x"\nmethods = "original"\n')
    with pytest.raises(InvalidInput, match="methods is 'original', expected a list"):
        read_plan(tmp_path / "text.toml")


def test_an_unknown_table_suggests_the_nearest():
    with pytest.raises(InvalidSettings, match="did you mean 'table4'"):
        plan_of_table("tabel4")


def test_every_file_in_experiments_is_a_plan():
    files = sorted(EXPERIMENTS.glob("*.toml"))
    assert {path.stem for path in files} >= set(TABLES)
    for path in files:
        assert tomllib.loads(path.read_text())["title"] == read_plan(path).title


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metrics": ("accuracyy",)}, "did you mean 'accuracy'"),
        ({"methods": ("original", "original")}, "'original' stands more than once"),
        ({"settings": {"both": {"attrcloak-df": {"drift": "summ"}}}}, "drift is 'summ'"),
        ({"settings": {"paper": {"als": {"factors": -4}}}}, "factors is -4"),
        ({"grid": {"noise": {"scale": 0.5}}}, r"grid\.noise\.scale is 0\.5, expected a list"),
        ({"grid": {"noise": 3}}, r"grid\.noise is 3"),
        ({"settings": {"both": {"als": 8}}}, "settings.both is"),
        ({"grid": 3}, "grid is 3, expected a table"),
        ({"quick": 1}, "quick is 1, expected a table"),
        ({"settings": "paper"}, "settings is 'paper', expected a table"),
        ({"quick": {"settings": {"paper": 3}}}, r"quick\.settings\.paper is 3"),
        (
            {"settings": {"both": {"als": {"factors": "many"}}}},
            "als .paper.: a value .* wrong kind .factors = 'many'",
        ),
        ({"quick": {"seed": 1}}, "did you mean 'seeds'"),
        ({"quick": {"methods": ["leece"]}}, "did you mean 'leace'"),
    ],
)
def test_what_would_fail_hours_later_fails_now(fields, message):
    with pytest.raises(InvalidInput, match=message):
        Plan(title="x", **fields)


def test_settings_may_hold_on_one_data_set_only():
    scopes = {"paper": {"als": {"factors": 4}}, "paper on ml-1m": {"als": {"factors": 8}}}
    plan = Plan(title="t", backbones=("als",), methods=("original",), settings=scopes)
    factors = [plan.variants("als", "paper", name)[0].settings for name in ("ml-100k", "ml-1m")]
    assert factors == [{"factors": 4}, {"factors": 8}]
    assert plan.variants("als", "sound", "ml-1m")[0].settings == {}
    for scope in ("on paper", "paper on ml1m"):
        with pytest.raises(InvalidInput, match=scope):
            Plan(title="t", settings={scope: {"als": {"factors": 4}}})
