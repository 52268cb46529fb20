"""Prepare a corpus in FLEURS's layout: python tools/prepare_fleurs.py SRC OUT [--langs eng,fra]

SRC holds data/<code>/<split>.tsv and the audio as data/<code>/audio/<split>.tar.gz or unpacked in
data/<code>/audio/<split>/. OUT gets <lang>/<split>.{tsv,ltr,wrd,uid} and dictionaries, in the format of
manifests/README.md. What is finished is skipped when the command is given again; more languages can be added to the
same OUT. Exit code 1 when audio was missing or broken.
"""

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mms_recipes import files, languages, streams
from mms_recipes.corpora import paths
from mms_recipes.corpora.preparation import (
    Source,
    SplitSource,
    SplitSummary,
    finish,
    normalization_for,
    prepare_language,
    report_damage,
)
from mms_recipes.corpora.tables import read_lines
from mms_recipes.corpora.validation import SPLITS
from mms_recipes.text import NORMALIZATION, NORMALIZATIONS

COLUMNS = {"raw": 2, "transcription": 3}  # of the tsv: id, file name, raw transcription, transcription, ...


@dataclass(frozen=True)
class Job:
    """One language to prepare, and what was asked for all."""

    place: str  # "3/102"
    lang: str
    folder: Path  # SRC/data/<code>
    out: Path
    splits: tuple[str, ...]
    normalization: str
    column: str
    relative_root: bool


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="folder that holds data/<code>/")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--langs", help="ids, set names or FLEURS codes, separated by commas (default: all in SRC)")
    parser.add_argument("--splits", default=",".join(SPLITS), help="separated by commas (default: %(default)s)")
    parser.add_argument(
        "--normalization", choices=sorted(NORMALIZATIONS), help=f"default: that of OUT, else {NORMALIZATION}"
    )
    parser.add_argument("--column", choices=sorted(COLUMNS), default="transcription", help="(default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="languages at once (default: 1)")
    parser.add_argument("--relative-root", action="store_true", help="OUT can be moved; stock fairseq cannot read it")
    parser.add_argument("--allow-missing", action="store_true", help="exit code 0 although audio is missing or broken")
    args = parser.parse_args(arguments)
    try:
        found = find_languages(args.src)
        langs = choose(args.langs, found, args.src)
        splits = tuple(args.splits.split(","))
        check_source([found[lang] for lang in langs], splits)
        jobs = [
            Job(
                f"{n}/{len(langs)}",
                lang,
                found[lang],
                args.out,
                splits,
                normalization_for(args.out, lang, args.normalization),
                args.column,
                args.relative_root,
            )
            for n, lang in enumerate(langs, start=1)
        ]
        summaries = run(jobs, args.jobs, args.out)
    except (ValueError, OSError) as error:
        print(f"error: {streams.printable(str(error), lines=True)}", file=sys.stderr)
        return 1
    hours = sum(summary.hours for each in summaries.values() for summary in each.values())
    print(f"{len(langs)} languages, {hours:.2f} h in {args.out}")
    named = {f"{lang} {split}": summary for lang, each in summaries.items() for split, summary in each.items()}
    return report_damage(named, args.allow_missing)


def find_languages(src: Path) -> dict[str, Path]:
    """Return the folders of SRC/data by language id. A folder is named by a FLEURS code or a language id."""
    folders = sorted({tsv.parent for split in SPLITS for tsv in src.glob(f"data/*/{split}.tsv")})
    if not folders:
        raise FileNotFoundError(
            f"{src}: no data/<code>/<split>.tsv in it; give the folder that holds FLEURS's data folder"
        )
    table = languages.table()
    return {code.name if code.name in table else languages.from_fleurs(code.name).id: code for code in folders}


def choose(langs: str | None, found: dict[str, Path], src: Path) -> list[str]:
    """Return the ids of the languages to prepare; ValueError names those that SRC does not hold."""
    if langs is None:
        return list(found)
    codes = {folder.name: lang for lang, folder in found.items()}
    chosen = languages.resolve(codes.get(name.strip(), name) for name in langs.split(","))
    if absent := [lang for lang in chosen if lang not in found]:
        raise ValueError(f"{src} has no data of {', '.join(absent)}; it has {', '.join(found)}")
    return chosen


def check_source(folders: list[Path], splits: tuple[str, ...]) -> None:
    """Raise FileNotFoundError that names every table and audio folder or archive that is not there."""
    absent = [str(folder / f"{s}.tsv") for folder in folders for s in splits if not (folder / f"{s}.tsv").is_file()]
    for audio in (folder / "audio" / split for folder in folders for split in splits):
        if not audio.is_dir() and not audio.with_name(f"{audio.name}.tar.gz").is_file():
            absent.append(f"{audio}.tar.gz (nor the folder {audio})")
    if absent:
        raise FileNotFoundError(
            "not there: " + ", ".join(absent) + "; get the corpus again, or choose --splits or --langs"
        )


def run(jobs: list[Job], at_once: int, out: Path) -> dict[str, dict[str, SplitSummary]]:
    """Prepare the languages and then what is common to all in the folder, even when one of them failed."""
    try:
        if at_once == 1:
            results = [prepare(job) for job in jobs]
        else:
            with ProcessPoolExecutor(at_once) as pool:
                results = list(pool.map(prepare, jobs))
    finally:
        finish(out)
    return {job.lang: result for job, result in zip(jobs, results, strict=True)}


def prepare(job: Job) -> dict[str, SplitSummary]:
    """Prepare one language, with a line for each split."""
    return prepare_language(
        job.out,
        job.lang,
        {split: read_split(job, split) for split in job.splits},
        job.relative_root,
        say=lambda line: print(f"[{job.place}] {line}", flush=True),
    )


def read_split(job: Job, split: str) -> SplitSource:
    """Read one FLEURS table, and say what it was read from."""
    tsv, archive = job.folder / f"{split}.tsv", job.folder / "audio" / f"{split}.tar.gz"
    settings = {
        "normalization": job.normalization,
        "source": str(tsv.resolve()),
        "column": job.column,
        "sha256": files.sha256(tsv),
        "archive_bytes": str(archive.stat().st_size) if archive.is_file() else "",
    }
    utterances = list(read_table(tsv, job.column, job.folder / "audio" / split))
    return SplitSource(utterances, archive if archive.is_file() else None, settings)


def read_table(tsv: Path, column: str, audio: Path) -> Iterator[Source]:
    """Yield the utterances of a FLEURS table: no header, no quoting; ValueError (file:line) for a malformed row."""
    width = 0
    for number, line in read_lines(tsv):
        cells = line.split("\t")
        width = width or len(cells)
        if len(cells) <= COLUMNS["transcription"] or not cells[1] or Path(cells[1]).name != cells[1]:
            raise ValueError(
                f"{tsv}:{number}: found {line!r}, expected id, file name (without folder), raw transcription and "
                "transcription, separated by tabs; get the table again"
            )
        if len(cells) != width:
            raise ValueError(
                f"{tsv}:{number}: found {len(cells)} cells, in the first line {width}; get the table again"
            )
        path, _ = paths.find(audio, cells[1])
        yield Source(Path(cells[1]).stem, cells[COLUMNS[column]], path, f"{tsv}:{number}")


if __name__ == "__main__":
    with streams.guarded():  # names from files may hold control characters
        sys.exit(main())
