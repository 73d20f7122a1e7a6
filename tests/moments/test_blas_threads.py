"""BLAS keeps to one thread inside, and has its own number outside; libraries that come later count too."""

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


def test_a_blas_that_scipy_brings_later_is_limited_too():
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
