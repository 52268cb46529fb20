"""Commands as users type them: see tools/bench/forked.py, which the fuzz uses as well."""

from forked import HANGS, PRELOADED, REPOSITORY, Ended, Meanwhile, as_typed, call, run

__all__ = ["HANGS", "PRELOADED", "REPOSITORY", "Ended", "Meanwhile", "as_typed", "call", "run"]
