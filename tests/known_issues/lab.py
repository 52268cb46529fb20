"""Tiny models on a corpus of tones: see tools/bench/tiny_lab.py, which the fuzz uses as well."""

from tiny_lab import OFTEN, Lab, build

__all__ = ["OFTEN", "Lab", "build"]
