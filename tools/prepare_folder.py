"""Prepare audio files and a table of path and text: python tools/prepare_folder.py TABLE OUT --lang eng

TABLE is .tsv (no quoting) or .csv (quoted as usual), with a header that names the columns (path, audio or file; text,
sentence or transcription) or without one (path, then text). Audio may be of any format that libsndfile reads. OUT gets
the same files as from tools/prepare_fleurs.py; a split of the same OUT that is finished is skipped.

One split is made (--split), or as many as the table says (--split-column), or train, dev and test are drawn
(--dev-fraction, --test-fraction) so that no sentence is in two of them. Speakers are not looked at: to keep them apart,
use --split-column. Exit code 1 when audio was missing or broken.
"""

import argparse
import csv
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mms_recipes import files, languages
from mms_recipes.corpora.preparation import Source, SplitSource, finish, prepare_language
from mms_recipes.corpora.validation import SPLITS
from mms_recipes.text import NORMALIZATION, NORMALIZATIONS

PATH_COLUMNS = ("path", "audio", "file")
TEXT_COLUMNS = ("text", "sentence", "transcription")


@dataclass(frozen=True)
class Row:
    """One row of the table; ``split`` is empty unless the table tells it."""

    path: str
    text: str
    split: str


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        lang = languages.language(args.lang).id
        rows = read_table(args.table, args.split_column)
        splits = divide(rows, args, lang)
        root = args.audio_root or args.table.parent
        settings = {
            "normalization": args.normalization,
            "source": str(args.table.resolve()),
            "audio_root": str(root.resolve()),
            "sha256": files.sha256(args.table),
            "division": f"{args.split} {args.split_column} {args.dev_fraction} {args.test_fraction} {args.seed}",
        }
        sources = {
            split: SplitSource([to_source(row, root) for row in rows], None, settings) for split, rows in splits.items()
        }
        summaries = prepare_language(args.out, lang, sources, args.relative_root, args.jobs)
        finish(args.out)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    damaged = [split for split, summary in summaries.items() if summary.is_damaged()]
    if damaged:
        print(f"audio was missing or broken in {', '.join(damaged)}; --allow-missing accepts that", file=sys.stderr)
    return 1 if damaged and not args.allow_missing else 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="tsv or csv of path and text")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--lang", required=True, help="id of the language")
    parser.add_argument("--audio-root", type=Path, help="folder that the paths count from (default: that of the table)")
    parser.add_argument("--split", default="train", help="the split that all rows make (default: %(default)s)")
    parser.add_argument("--split-column", help="column of the table that holds train, dev or test")
    parser.add_argument("--dev-fraction", type=float, default=0.0, help="share of the sentences drawn for dev")
    parser.add_argument("--test-fraction", type=float, default=0.0, help="share of the sentences drawn for test")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    parser.add_argument("--normalization", choices=sorted(NORMALIZATIONS), default=NORMALIZATION)
    parser.add_argument("--jobs", type=int, default=2, help="audio files converted at once (default: %(default)s)")
    parser.add_argument("--relative-root", action="store_true", help="OUT can be moved; stock fairseq cannot read it")
    parser.add_argument("--allow-missing", action="store_true", help="exit code 0 although audio is missing or broken")
    return parser.parse_args(arguments)


def read_table(table: Path, split_column: str | None) -> list[Row]:
    """Read the rows of a table; ValueError (file:line) for a malformed one, and for a header that lacks a column."""
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; expected a .tsv or .csv of path and text")
    is_csv = table.suffix.lower() == ".csv"
    with table.open(encoding="utf-8-sig", newline="") as file:
        if is_csv:
            reader = csv.reader(file)
            lines = [(reader.line_num, cells) for cells in reader]
        else:
            lines = [(number, line.rstrip("\r\n").split("\t")) for number, line in enumerate(file, start=1)]
    if not lines:
        raise ValueError(f"{table}: empty; expected rows of path and text")
    header = [name.strip().lower() for name in lines[0][1]]
    path, text, split = find_columns(table, header, split_column)
    has_header = bool(set(header) & {*PATH_COLUMNS, *TEXT_COLUMNS})
    rows = []
    for number, cells in lines[1:] if has_header else lines:
        if len(cells) <= max(path, text, split) or not cells[path].strip():
            separator = "commas" if is_csv else "tabs"
            raise ValueError(f"{table}:{number}: found {cells}, expected path and text separated by {separator}")
        rows.append(Row(cells[path].strip(), cells[text], cells[split].strip() if split_column else ""))
    return rows


def find_columns(table: Path, header: Sequence[str], split_column: str | None) -> tuple[int, int, int]:
    """Return the places of path, text and split (0 without a split column)."""
    if not set(header) & {*PATH_COLUMNS, *TEXT_COLUMNS}:
        if split_column:
            raise ValueError(f"{table}:1: no header ({header}), so no column {split_column!r}; add a header line")
        return 0, 1, 0
    places = []
    for names in (PATH_COLUMNS, TEXT_COLUMNS, (split_column.lower(),) if split_column else ()):
        found = [header.index(name) for name in names if name in header]
        if names and not found:
            raise ValueError(
                f"{table}:1: the header has {', '.join(header)}, but none of {', '.join(names)}; rename one"
            )
        places.append(found[0] if found else 0)
    return places[0], places[1], places[2]


def divide(rows: Sequence[Row], args: argparse.Namespace, lang: str) -> dict[str, list[Row]]:
    """Return the rows by split, as the options say; the same sentence (normalised) is never drawn into two splits."""
    dev, test = args.dev_fraction, args.test_fraction
    if dev < 0 or test < 0 or dev + test >= 1:
        raise ValueError(
            f"--dev-fraction {dev} and --test-fraction {test}: expected 0 or more, and together less than 1"
        )
    splits: dict[str, list[Row]] = defaultdict(list)
    if args.split_column:
        for row in rows:
            splits[row.split].append(row)
        if unknown := sorted(splits.keys() - set(SPLITS)):
            raise ValueError(
                f"{args.table}: column {args.split_column!r} holds {unknown}, expected {', '.join(SPLITS)}"
            )
    elif dev or test:
        normalize = NORMALIZATIONS[args.normalization]
        sentences = sorted({normalize(row.text, lang) for row in rows})
        random.Random(args.seed).shuffle(sentences)
        num_dev, num_test = round(dev * len(sentences)), round(test * len(sentences))
        drawn = {
            sentence: "dev" if n < num_dev else "test" for n, sentence in enumerate(sentences[: num_dev + num_test])
        }
        for row in rows:
            splits[drawn.get(normalize(row.text, lang), "train")].append(row)
    else:
        splits[args.split] = list(rows)
    return {split: splits[split] for split in dict.fromkeys([*SPLITS, *splits]) if split in splits}


def to_source(row: Row, root: Path) -> Source:
    """Return the row as an utterance, named by its path so that equal file names in two folders stay apart."""
    path = Path(row.path)
    name = path.stem if path.is_absolute() else str(path.with_suffix(""))
    return Source(name, row.text, root / path)


if __name__ == "__main__":
    sys.exit(main())
