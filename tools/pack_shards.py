"""Pack a prepared corpus into shards: python tools/pack_shards.py SRC OUT [--format tar|zip] [--langs eng,fra]

For disks on which many small files are slow to open or to copy. OUT gets <lang>/shards/<split>-00000.tar, ...,
manifests that name places in them, and copies of labels and dictionaries: a whole corpus, which training, evaluation
and validation take like any other. WAV becomes FLAC of the same samples. The order is the manifest's, so that labels
stay as they are; training draws utterances one by one in an order of its own, so a shuffled one would change nothing.

What is finished is skipped when the command is given again, split by split (changed audio under an unchanged manifest
is not noticed: remove OUT/<lang>/packed.json). The same input gives the same bytes, with the same libsndfile.
"""

import argparse
import contextlib
import hashlib
import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import soundfile
from tqdm import tqdm

from mms_recipes import audio_files, files, languages, streams
from mms_recipes.corpora.validation import SPLITS, find_languages
from mms_recipes.manifest import (
    LABEL_SUFFIXES,
    PREPARED,
    SAMPLE_RATE,
    Lines,
    Manifest,
    read_labels,
    read_manifest,
)
from mms_recipes.unit_kinds import UnitKind

LOSSLESS = ("PCM_16", "PCM_24")  # what FLAC keeps sample for sample; wav of another kind stays as it is
AT_ONCE = 64  # utterances read ahead of the one that is written


@dataclass(frozen=True)
class Settings:
    """What the bytes of OUT depend on, besides those of SRC."""

    format: str  # "tar" or "zip"
    shard_mb: int  # 10^6 bytes
    keep: bool  # wav stays wav
    relative_root: bool


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    settings = Settings(args.format, args.shard_mb, args.keep, args.relative_root)
    try:
        if args.src.resolve() == args.out.resolve():
            raise ValueError(f"{args.out}: OUT is SRC; name another folder, nothing is changed in place")
        for lang in choose(args.langs, args.src):
            pack_language(args.src / lang, args.out / lang, settings, args.jobs)
        copy(args.src, args.out, [*(kind.dictionary for kind in UnitKind), PREPARED])
    except (ValueError, OSError) as error:
        print(f"error: {streams.printable(str(error), lines=True)}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, help="a prepared corpus: <lang>/<split>.tsv, labels, dictionaries")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--format", choices=("tar", "zip"), default="tar", help="(default: %(default)s)")
    parser.add_argument("--shard-mb", type=positive, default=1024, help="size of a shard, 10^6 bytes (default: 1024)")
    parser.add_argument("--langs", help="ids or set names, separated by commas (default: all in SRC)")
    parser.add_argument("--keep", action="store_true", help="pack wav as it is; without, it becomes flac")
    parser.add_argument("--jobs", type=positive, default=2, help="utterances read at once (default: %(default)s)")
    parser.add_argument("--relative-root", action="store_true", help="OUT can be moved; stock fairseq cannot read it")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number}, expected 1 or more")
    return number


def choose(langs: str | None, src: Path) -> list[str]:
    """Return the languages to pack; ValueError names those that SRC does not hold."""
    found = find_languages(src)
    chosen = found if langs is None else languages.resolve(langs.split(","))
    if absent := sorted(set(chosen) - set(found)):
        raise ValueError(f"{src}: no manifests of {', '.join(absent)}; it has {', '.join(found)}")
    return chosen


def pack_language(src: Path, out: Path, settings: Settings, jobs: int) -> None:
    """Pack the splits of a language that are not finished. ``packed.json``, written after each, tells which are."""
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / "packed.json"
    state: dict[str, Any] = json.loads(state_file.read_text("utf-8")) if state_file.exists() else {}
    for split in SPLITS:
        if not (src / f"{split}.tsv").exists():
            continue
        wanted = {**asdict(settings), "source": str(src.resolve()), "sha256": digest(src, split)}
        if is_finished(out, split, wanted, state.get(split)):
            print(f"{out.name} {split}: finished before")
            continue
        (out / f"{split}.tsv").unlink(missing_ok=True)  # from here until the end the split is not whole
        state[split] = {"settings": wanted, "shards": pack_split(src, out, split, settings, jobs)}
        files.write_text(state_file, json.dumps(state, indent=1) + "\n")
        size = sum(state[split]["shards"].values()) / 1e6
        print(f"{out.name} {split}: {size:,.1f} MB in {len(state[split]['shards'])} shards")
    copy(src, out, [*(name for kind in UnitKind for name in kind.files), PREPARED])
    for path in sorted(src.glob(f"*.{UnitKind.sentencepiece.suffix}")):  # may have been built since a split was packed
        copy(src, out, [path.name])


def digest(src: Path, split: str) -> str:
    """Return a hash of the manifest and the labels of a split."""
    found = hashlib.sha256()
    for suffix in ("tsv", *LABEL_SUFFIXES):
        path = src / f"{split}.{suffix}"
        found.update(path.read_bytes() if path.exists() else b"")
        found.update(b"\0")
    return found.hexdigest()


def is_finished(out: Path, split: str, wanted: dict[str, Any], state: dict[str, Any] | None) -> bool:
    """Say whether a split was packed with these settings and all of it is still there."""
    if state is None or state["settings"] != wanted or not (out / f"{split}.tsv").exists():
        return False
    shards = {out / "shards" / name: size for name, size in state["shards"].items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in shards.items())


def pack_split(src: Path, out: Path, split: str, settings: Settings, jobs: int) -> dict[str, int]:
    """Write shards, labels and at last the manifest of a split; return the bytes of each shard."""
    utterances = read_manifest(src / f"{split}.tsv")
    labels = [f"{split}.{suffix}" for suffix in LABEL_SUFFIXES if (src / f"{split}.{suffix}").exists()]
    uids = read_labels(src, split, len(utterances)).uids if labels else None
    folder = out / "shards"
    folder.mkdir(exist_ok=True)
    remove(folder.glob(f".{split}-*.tmp"))  # of a run that was killed
    members = read_members(utterances, uids, settings, jobs)
    progress = tqdm(members, f"{out.name} {split}", total=len(utterances), unit="utterance", disable=None, leave=False)
    rows: list[str] = []
    shards: dict[str, int] = {}
    for name, offset, size in write_shards(folder, split, settings, iter(progress)):
        rows.append(f"shards/{name}:{offset}:{size}\t{utterances.num_samples[len(rows)]}")
        shards[name] = 0
    copy(src, out, labels)
    root = "." if settings.relative_root else str(out.resolve())
    files.write_text(out / f"{split}.tsv", "".join(f"{line}\n" for line in (root, *rows)))
    remove(path for form in ("tar", "zip") for path in folder.glob(f"{split}-*.{form}") if path.name not in shards)
    return {name: (folder / name).stat().st_size for name in shards}


def read_members(
    utterances: Manifest, uids: Lines | None, settings: Settings, jobs: int
) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of what is packed, in the manifest's order; ValueError (file:line) for unusable audio."""

    def read(row: int) -> tuple[str, bytes]:
        path = utterances.path(row)
        if fault := audio_files.probe(path, int(utterances.num_samples[row])):
            where = f"{utterances.rows.where(row)}: {path}: {fault[1]}"
            raise ValueError(f"{where}; mend the corpus first, tools/validate_manifests.py tells all that is wrong")
        suffix, contents = encode(audio_files.read_bytes(path), settings.keep)
        stem = f"{row:08}" if uids is None else re.sub(r"[^\w.-]+", "_", uids[row]).lstrip(".") or "_"
        return f"{stem}.{suffix}", contents

    with ThreadPoolExecutor(jobs) as pool:
        for start in range(0, len(utterances), AT_ONCE):
            yield from pool.map(read, range(start, min(start + AT_ONCE, len(utterances))))


def encode(contents: bytes, keep: bool) -> tuple[str, bytes]:
    """Return the suffix and the bytes to store: wav as flac unless it is to be kept, all else as it is."""
    with soundfile.SoundFile(io.BytesIO(contents)) as file:
        kind, subtype = "WAV" if file.format == "WAVEX" else file.format, file.subtype
        if keep or kind != "WAV" or subtype not in LOSSLESS:
            return kind.lower(), contents
        samples = file.read(dtype="int32")
    flac = io.BytesIO()
    soundfile.write(flac, samples, SAMPLE_RATE, format="FLAC", subtype=subtype)
    return "flac", flac.getvalue()


def write_shards(
    folder: Path, split: str, settings: Settings, members: Iterator[tuple[str, bytes]]
) -> Iterator[tuple[str, int, int]]:
    """Write members into one shard after the other, at least one into each; yield shard, offset and size of each."""
    number, member = 0, next(members, None)
    while member is not None:
        shard = f"{split}-{number:05}.{settings.format}"
        with (
            files.replaced(folder / shard) as temporary,
            temporary.open("wb") as file,
            open_archive(file, settings.format) as add,
        ):
            size = 0
            while member is not None and (size == 0 or size + len(member[1]) <= settings.shard_mb * 1_000_000):
                offset = add(*member)
                yield shard, offset, len(member[1])
                size, member = file.tell(), next(members, None)
        number += 1


@contextlib.contextmanager
def open_archive(file: IO[bytes], form: str) -> Iterator[Callable[[str, bytes], int]]:
    """Yield what adds a member (name, contents) and returns its offset. Times and owners are fixed: same input, same
    bytes."""
    if form == "tar":
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:

            def add(name: str, contents: bytes) -> int:
                header = tarfile.TarInfo(name)
                header.size = len(contents)
                tar.addfile(header, io.BytesIO(contents))
                return file.tell() - -(-len(contents) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

            yield add
    else:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

            def add(name: str, contents: bytes) -> int:
                header = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # the earliest that there is
                header.create_system, header.external_attr = 3, 0o644 << 16
                archive.writestr(header, contents)
                return file.tell() - len(contents)

            yield add


def copy(src: Path, out: Path, names: Sequence[str]) -> None:
    """Copy the files that are there."""
    for name in names:
        if (src / name).exists():
            files.write_bytes(out / name, (src / name).read_bytes())


def remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    with streams.guarded():  # names from files may hold control characters
        sys.exit(main())
