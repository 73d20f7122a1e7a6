"""BLAS keeps to one thread inside, and has its own number outside; libraries that come later count too."""

import os
import subprocess
import sys

from threadpoolctl import threadpool_info

from attrcloak.moments.blas_threads import one_thread


def threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_blas_has_one_thread_inside_and_what_it_had_outside():
    before = threads()
    for _ in range(2):
        with one_thread():
            assert threads() == {1}
        assert threads() == before


LATER = """
import numpy
from threadpoolctl import threadpool_info
from attrcloak.moments.blas_threads import blas_libraries, one_thread

assert len(blas_libraries().lib_controllers) == 1
import scipy.linalg
with one_thread():
    found = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
assert len(found) == len(blas_libraries().lib_controllers) and set(found) == {1}, found
"""


INSIDE = """
from attrcloak.moments.blas_threads import blas_libraries, one_thread
from attrcloak.moments.tiles import map_over_tiles

with map_over_tiles(10**6, 64) as outside:
    assert outside is not map, blas_libraries().info()
with one_thread(scipy_too=False):
    import scipy.linalg  # as compiled passes do
    with map_over_tiles(10**6, 64) as inside:
        assert inside is map, blas_libraries().info()
"""


def test_a_pass_inside_a_limit_keeps_to_its_thread_though_it_loads_scipy():
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", INSIDE], capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stderr


def test_a_blas_that_scipy_brings_later_is_limited_too():
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
