"""A corpus that a tiny model learns in seconds: see tools/bench/tones.py, which the fuzz uses as well."""

from tones import LETTERS, RATE, composed, train, utterance, write_corpus

__all__ = ["LETTERS", "RATE", "composed", "train", "utterance", "write_corpus"]
