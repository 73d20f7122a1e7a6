"""Every engine there is; Ray and Spark where they are installed."""

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from attrcloak.engines import ENGINES, Engine, engine_of

EXTRAS = {"ray": "ray", "spark": "pyspark"}


@pytest.fixture(scope="session", params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Two workers of an engine, closed at the end."""
    extra = EXTRAS.get(request.param)
    if extra is not None and find_spec(extra) is None:
        pytest.skip(f"{extra} is not installed")
    with warnings.catch_warnings():
        if extra is not None:
            warnings.simplefilter("ignore")  # those libraries have their own
        started = engine_of(request.param, parts=4, workers=2)
        yield started
        started.close()
