"""Check prepared manifests, and print the hours of each language: python tools/validate_manifests.py FOLDER [--langs
...]

Exit code 1 when there is anything to mend. Notes stop nothing: letters that look alike, no dev split ...
"""

import argparse
import sys
from pathlib import Path

from mms_recipes import streams
from mms_recipes.corpora.validation import SPLITS, validate
from mms_recipes.languages import resolve
from mms_recipes.unit_kinds import UnitKind


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what the preparation wrote: <lang>/<split>.tsv")
    parser.add_argument("--langs", help="ids or set names, separated by commas (default: all that are there)")
    parser.add_argument("--splits", help=f"separated by commas (default: those of {','.join(SPLITS)} that are there)")
    parser.add_argument(
        "--audio", choices=("all", "first", "none"), default="all", help="headers to open (default: all)"
    )
    parser.add_argument("--dictionary", type=Path, help="one for all languages (default: that of each)")
    parser.add_argument(
        "--units", type=UnitKind, choices=list(UnitKind), default=UnitKind.letters, help="labels to check"
    )
    parser.add_argument("--no-labels", action="store_true", help="manifests without labels, for pretraining")
    args = parser.parse_args(arguments)
    try:
        report = validate(
            args.folder,
            resolve(args.langs) if args.langs else None,
            args.splits.split(",") if args.splits else None,
            check_audio=args.audio,
            dictionary=args.dictionary,
            labelled=not args.no_labels,
            kind=args.units,
            progress=True,
            letters=True,
        )
    except (ValueError, OSError) as error:
        print(f"error: {streams.printable(str(error), lines=True)}", file=sys.stderr)
        return 1
    print(report.table())
    for note in report.notes():
        print(f"note: {note}")
    for problem in report.problems():
        print(f"problem: {problem}")
    print("nothing to mend" if not report.problems() else f"{report.num_problems()} to mend")
    return 1 if report.problems() else 0


if __name__ == "__main__":
    with streams.guarded():  # names from files may hold control characters
        sys.exit(main())
