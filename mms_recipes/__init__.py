"""Massively multilingual speech, trained and measured by anyone."""

__version__ = "0.1.0"
