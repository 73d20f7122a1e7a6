"""The front door is light: importing the package or asking for help loads no heavy library."""

import json
import subprocess
import sys
import time

import pytest

import attrcloak

HEAVY = ("torch", "sklearn", "pyarrow", "xgboost", "implicit", "matplotlib", "scipy")


def loaded_after(code: str) -> set[str]:
    """Top-level modules a fresh interpreter has loaded after running ``code``."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def seconds(*arguments: str) -> float:
    """The best of five runs of a fresh interpreter: the least disturbed by whatever else the machine does."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_loads_nothing_heavy() -> None:
    assert loaded_after("import attrcloak") & {*HEAVY, "numpy", "typer"} == set()


def test_arrays_go_through_both_passes_without_torch() -> None:
    code = (
        "import numpy as np, attrcloak as ac\n"
        "table = ac.EmbeddingTable(ac.Ids.range(40), np.random.default_rng(0).normal(size=(40, 3)))\n"
        "people = ac.UserAttributes.from_values(table.ids, group=['a', 'b'] * 20)\n"
        "ac.unlearn(table, people, ac.LEACE(), check=False)\n"
    )
    assert "torch" not in loaded_after(code)


def test_methods_load_no_learning_library() -> None:
    assert loaded_after("from attrcloak.unlearning import CalibratedFlow") & {"sklearn", "torch", "numba"} == set()


def test_help_loads_nothing_heavy() -> None:
    ask = "import sys\nsys.argv = ['attrcloak', '--help']\nfrom attrcloak.cli import main\n"
    assert loaded_after(f"{ask}try:\n    main()\nexcept SystemExit:\n    pass") & set(HEAVY) == set()


def test_help_is_quick() -> None:
    """A ratio, so that it holds on a slow machine too: importing typer and rich is the yardstick."""
    yardstick = seconds("-c", "import typer, rich.console, rich.table, rich.panel, rich.markdown, typer.rich_utils")
    ask = "import sys; sys.argv = ['attrcloak', '--help']; from attrcloak.cli import main; sys.exit(main())"
    assert seconds("-c", ask) < 2.5 * yardstick


@pytest.mark.parametrize("name", attrcloak.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(attrcloak, name) is not None
    assert name in dir(attrcloak)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'calibrate'"):
        attrcloak.calibrate  # noqa: B018


def test_version_is_the_distribution_s() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("attrcloak")
    except PackageNotFoundError:
        pytest.skip("attrcloak is on the path but not installed")
    assert attrcloak.__version__ == installed
