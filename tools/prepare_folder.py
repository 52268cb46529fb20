"""Prepare audio files and a table of path and text: python tools/prepare_folder.py TABLE OUT --lang eng

TABLE is .tsv (no quoting) or .csv (quoted as usual), with a header that names the columns (path, audio or file; text,
sentence or transcription; others by --path-column and --text-column) or without one (path, then text). Columns of start
and end (or duration), in seconds, make each row a part of its recording. Audio may be of any format that libsndfile
reads. OUT gets the same files as from tools/prepare_fleurs.py; a split of the same OUT that is finished is skipped.

One split is made (--split), or as many as the table says (--split-column), or train, dev and test are drawn
(--dev-fraction, --test-fraction) so that no sentence is in two of them. Speakers are not looked at: to keep them apart,
use --split-column. Exit code 1 when audio was missing or broken.
"""

import argparse
import random
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from mms_recipes import files, languages, streams
from mms_recipes.corpora import paths, segments
from mms_recipes.corpora.preparation import (
    Source,
    SplitSource,
    finish,
    normalization_for,
    prepare_language,
    report_damage,
)
from mms_recipes.corpora.tables import Row, Wanted, read_table
from mms_recipes.corpora.validation import SPLITS
from mms_recipes.text import NORMALIZATION, NORMALIZATIONS


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        lang = languages.language(args.lang).id
        table = read_table(args.table, Wanted(args.path_column, args.text_column, args.split_column))
        print(f"{args.table}: {len(table.rows)} rows; {table.columns}")
        args.normalization = normalization_for(args.out, lang, args.normalization)
        splits = divide(table.rows, args, lang)
        root = args.audio_root or args.table.parent
        settings = {
            "normalization": args.normalization,
            "source": str(args.table.resolve()),
            "audio_root": str(root.resolve()),
            "sha256": files.sha256(args.table),
            "columns": table.columns,
            "division": f"{args.split} {args.split_column} {args.dev_fraction} {args.test_fraction} {args.seed}",
        }
        sources = {split: SplitSource(to_sources(rows, root), None, settings) for split, rows in splits.items()}
        summaries = prepare_language(args.out, lang, sources, args.relative_root, args.jobs)
        finish(args.out)
    except (ValueError, OSError) as error:
        print(f"error: {streams.printable(str(error), lines=True)}", file=sys.stderr)
        return 1
    return report_damage(summaries, args.allow_missing)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="tsv or csv of path and text")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--lang", required=True, help="id of the language")
    parser.add_argument("--audio-root", type=Path, help="folder that the paths count from (default: that of the table)")
    parser.add_argument("--path-column", help="column that names the audio (default: path, audio or file)")
    parser.add_argument("--text-column", help="column of the text (default: text, sentence or transcription)")
    parser.add_argument("--split", default="train", help="the split that all rows make (default: %(default)s)")
    parser.add_argument("--split-column", help="column of the table that holds train, dev or test")
    parser.add_argument("--dev-fraction", type=float, default=0.0, help="share of the sentences drawn for dev")
    parser.add_argument("--test-fraction", type=float, default=0.0, help="share of the sentences drawn for test")
    parser.add_argument("--seed", type=int, default=1, help="of the draw (default: %(default)s)")
    parser.add_argument(
        "--normalization", choices=sorted(NORMALIZATIONS), help=f"default: that of OUT, else {NORMALIZATION}"
    )
    parser.add_argument("--jobs", type=int, default=2, help="audio files converted at once (default: %(default)s)")
    parser.add_argument("--relative-root", action="store_true", help="OUT can be moved; stock fairseq cannot read it")
    parser.add_argument("--allow-missing", action="store_true", help="exit code 0 although audio is missing or broken")
    return parser.parse_args(arguments)


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


def to_sources(rows: Sequence[Row], root: Path) -> list[Source]:
    """Return rows as utterances, named by their paths so that equal file names in two folders stay apart.

    Prints which files were found under names that are written otherwise in the table.
    """
    sources: list[Source] = []
    examples: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in rows:
        audio, remark = paths.find(root, row.path)
        if remark:
            counts[remark] += 1
            examples.setdefault(remark, f"{row.where}: {row.path!r} is {str(audio)!r}")
        written = Path(row.path)
        if remark and audio.is_relative_to(root):
            written = Path(unicodedata.normalize("NFC", str(audio.relative_to(root))))
        name = written.stem if written.is_absolute() else str(written.with_suffix(""))
        if row.span:
            name = segments.name_of(name, row.span)
        sources.append(Source(name, row.text, audio, row.where, row.span))
    for remark, number in counts.items():
        print(f"{number} files found although {remark}, such as {examples[remark]}")
    return sources


if __name__ == "__main__":
    with streams.guarded():  # names from files may hold control characters
        sys.exit(main())
