"""Every command explains itself: what it does, an example, and every option."""

import pytest
import typer

import attrcloak
from attrcloak.cli import app
from attrcloak.release import FLOW_DIMENSIONS, FLOW_USERS

COMMANDS = (
    "demo", "train", "audit", "unlearn", "apply", "undo", "evaluate", "compare", "reproduce", "report", "data",
    "doctor",
)  # fmt: skip


def test_the_commands_are_these():
    assert tuple(typer.main.get_command(app).commands) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_explains_every_option(run, command):
    done = run(command, "--help")
    assert done.code == 0
    assert f"attrcloak {command}" in " ".join(done.out.split())
    parameters = typer.main.get_command(app).commands[command].params
    assert [p.name for p in parameters if not getattr(p, "help", None)] == []


def test_the_help_of_the_method_says_up_to_which_size_a_table_flows():
    method = next(p for p in typer.main.get_command(app).commands["unlearn"].params if p.name == "method")
    assert f"up to {FLOW_USERS:,} users and {FLOW_DIMENSIONS} dimensions" in method.help


def test_no_command_shows_the_help(run):
    assert "unlearn" in run().out


def test_doctor_names_versions_and_extras(run):
    done = run("doctor")
    assert done.code == 0
    for word in ("python", "numpy", "implicit", "torch", "cores"):
        assert word in done.out


def test_the_version_is_that_of_the_package(run):
    done = run("--version")
    assert (done.code, done.out.strip()) == (0, f"attrcloak {attrcloak.__version__}")
