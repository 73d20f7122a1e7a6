"""How long work reports how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total).

A stage ends with ``done == total``, whether it took all its steps or stopped early. Stages nest: one that reports again
ends those that began after it.
"""
