"""The units that a language model must spell words in: those of a dictionary, or of a checkpoint; for build_lm.py."""

import argparse
from pathlib import Path

from mms_recipes.manifest import SPECIAL_TOKENS, read_dictionary
from mms_recipes.unit_kinds import UnitKind
from mms_recipes.units import Units, folder_units


def source(lang: str, args: argparse.Namespace) -> Path:
    """Return the file that says which units the acoustic model has: a dictionary, an adapter or a checkpoint.

    ValueError when the options say it twice.
    """
    if args.checkpoint:
        if args.dictionary or args.units is not UnitKind.letters:
            raise ValueError("--checkpoint says by itself which units there are; leave out --dictionary and --units")
        checkpoint: Path = args.checkpoint
        return checkpoint / f"{lang}.safetensors" if checkpoint.is_dir() else checkpoint
    dictionary: Path = args.dictionary or args.sources[0] / lang / args.units.dictionary
    return dictionary


def wanted(args: argparse.Namespace) -> str:
    """Say which file that must be, for a message."""
    if args.checkpoint:
        return "adapters or a checkpoint of the language"
    return f"{args.units.dictionary}, which comes from {args.units.maker}"


def read(lang: str, path: Path, args: argparse.Namespace) -> tuple[list[str], Units]:
    """Return the units of the acoustic model, from what `source` returned, and how they spell words."""
    if args.checkpoint:
        from mms_recipes import recognizer  # torch and fairseq: seconds

        symbols, units = recognizer.read_spelling(args.checkpoint, lang)
        return [symbol for symbol in symbols if symbol not in SPECIAL_TOKENS], units
    return read_dictionary(path), folder_units(path.parent, args.units)
