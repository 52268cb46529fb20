"""Which recordings there are to cut. The first work of tools/segment_audio.py."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from segment_recording import Recording, fingerprint

from mms_recipes import languages
from mms_recipes.sources import SUFFIXES


def find_recordings(src: Path, out: Path, lang: str | None) -> list[Recording]:
    """Return the audio files under SRC, language by language, and print what was passed by.

    Raises FileNotFoundError when there are none, ValueError when a language is unknown or OUT lies in SRC.
    """
    if not src.is_dir():
        raise FileNotFoundError(f"{src}: no such folder; expected one that holds recordings")
    if out.resolve().is_relative_to(src.resolve()):
        raise ValueError(f"{out} lies in {src} and would be cut itself the next time; choose an OUT outside SRC")
    recordings, passed = [], Counter[str]()
    for name, folder in ({languages.language(lang).id: src} if lang else language_folders(src)).items():
        for path in walk(folder):
            if path.is_dir():
                passed["links to folders"] += 1
            elif path.suffix.lower() in SUFFIXES:
                recordings.append(describe(name, folder, path))
            else:
                passed[path.suffix.lower() or "without suffix"] += 1
    if passed:
        found = ", ".join(f"{count} {kind!r}" for kind, count in sorted(passed.items()))
        print(f"passed by in {src}, because libsndfile does not read it: {found}")
    if not recordings:
        raise FileNotFoundError(f"{src}: no audio in it; libsndfile reads {' '.join(sorted(SUFFIXES))}")
    return recordings


def language_folders(src: Path) -> dict[str, Path]:
    """Return the folders of SRC by language; ValueError names all that is there and belongs to no language."""
    faults, folders = [], {}
    for path in sorted(path for path in src.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            try:
                folders[languages.language(path.name).id] = path
            except ValueError as error:
                faults.append(f"{path}: {error}")
        elif path.suffix.lower() in SUFFIXES:
            faults.append(f"{path}: in no folder of a language; move it, or give --lang for all of SRC")
    if faults:
        raise ValueError("\n".join(faults))
    return folders


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below, and links to folders, which are not followed; sorted, nothing hidden."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        yield from (Path(parent, name) for name in sorted([*files, *links]) if not name.startswith("."))


def describe(lang: str, folder: Path, path: Path) -> Recording:
    """Return a file as a recording; what a manifest cannot hold is written in its name as in addresses, ``%09``."""
    unsafe = r"[%\x00-\x1f\x7f\ud800-\udfff]"
    name = re.sub(unsafe, lambda found: quote(found[0], errors="surrogateescape"), path.relative_to(folder).as_posix())
    return Recording(lang, name, path, *fingerprint(path))


def by_language(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    found: dict[str, list[Recording]] = {}
    for recording in recordings:
        found.setdefault(recording.lang, []).append(recording)
    return found
