"""Learn sentencepiece units from the training text of each language: python tools/build_units.py manifests/fleurs

FOLDER/<lang>/ gets units.model, dict.units.txt and, for every split, the labels <split>.units beside <split>.ltr;
FOLDER gets the union of the dictionaries, for models of all languages in one. A language whose text has not changed
is skipped. Needs the extra [decoding].
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mms_recipes import languages, units
from mms_recipes.corpora import validation
from mms_recipes.files import sha256, write_bytes, write_text
from mms_recipes.manifest import read_lines, write_dictionary
from mms_recipes.unit_kinds import PIECES_MODEL, UnitKind
from mms_recipes.units import Units

DESCRIPTION = "units.json"
DICTIONARY, SUFFIX = UnitKind.sentencepiece.dictionary, UnitKind.sentencepiece.suffix


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="manifests: <lang>/train.wrd")
    parser.add_argument("--langs", help="ids or set names, separated by commas (default: all that are there)")
    parser.add_argument(
        "--vocab-size", type=int, default=units.VOCABULARY, help="units of a language (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        if args.vocab_size < 2:
            raise ValueError(f"--vocab-size {args.vocab_size}: expected 2 or more")
        folder: Path = args.folder
        langs = languages.resolve(args.langs) if args.langs else validation.find_languages(folder, ["train"])
        for lang in langs:
            build(folder / lang, lang, args.vocab_size)
        union(folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build(folder: Path, lang: str, size: int) -> None:
    """Make the units and labels of one language, unless that is done."""
    splits = [split for split in validation.SPLITS if (folder / f"{split}.wrd").is_file() or split == "train"]
    texts = {split: read_lines(folder / f"{split}.wrd") for split in splits}
    checksums = {split: sha256(lines.file) for split, lines in texts.items()}
    settings = {"vocab_size": size, "texts": checksums}
    if is_finished(folder, settings):
        print(f"{lang}: finished before")
        return
    try:
        learnt, counts = units.train_units(texts["train"], size)
    except ValueError as error:
        raise ValueError(f"{texts['train'].file}: {error}") from None
    (folder / DESCRIPTION).unlink(missing_ok=True)
    write_bytes(folder / PIECES_MODEL, learnt.model)
    write_dictionary(folder / DICTIONARY, counts)
    totals = {split: write_labels(folder / f"{split}.{SUFFIX}", lines, learnt) for split, lines in texts.items()}
    write_text(folder / DESCRIPTION, json.dumps({"settings": settings, "counts": counts}, ensure_ascii=False) + "\n")
    letters = sum(len(line) for line in texts["train"])  # a letter each, and a mark for each word
    print(
        f"{lang}: {len(counts)} units{asked(len(counts), size)}, {letters / max(1, totals['train']):.2f} letters each"
    )


def asked(found: int, size: int) -> str:
    if found == size:
        return ""
    why = "the text has more letters" if found > size else "the text has no more pieces"
    return f" (asked for {size}: {why})"


def is_finished(folder: Path, settings: dict[str, Any]) -> bool:
    try:
        document = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return False
    files = [PIECES_MODEL, DICTIONARY, *(f"{split}.{SUFFIX}" for split in settings["texts"])]
    return bool(document["settings"] == settings) and all((folder / name).is_file() for name in files)


def write_labels(path: Path, sentences: Any, learnt: Units) -> int:
    """Write the sentences in units, a line each, and return how many units they have."""
    lines = [learnt.encode(sentence) for sentence in sentences]
    write_text(path, "".join(f"{' '.join(line)}\n" for line in lines))
    return sum(map(len, lines))


def union(folder: Path) -> None:
    """Write the dictionary of all languages of the folder that have units."""
    counts: Counter[str] = Counter()
    for path in sorted(folder.glob(f"*/{DESCRIPTION}")):
        counts.update(json.loads(path.read_text(encoding="utf-8"))["counts"])
    write_dictionary(folder / DICTIONARY, counts)


if __name__ == "__main__":
    sys.exit(main())
