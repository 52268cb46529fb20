"""A corpus that a tiny model learns in seconds: see tools/bench/tones.py, which the fuzz uses as well."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tools" / "bench"))  # for scripts that import this without pytest

from tones import LETTERS, RATE, composed, train, utterance, write_corpus

__all__ = ["LETTERS", "RATE", "composed", "train", "utterance", "write_corpus"]
