"""Files that a table names, found although another system spells their names in another way.

A name may be in another Unicode form than on disk (an archive of a Mac), have backslashes or a drive letter, blanks at
its ends, or other case. What fits one file alone is that file, and the difference is returned to be printed.
"""

import difflib
import functools
import os
import re
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path

_DRIVE = re.compile(r"^(?:[A-Za-z]:|[\\/]{2}[^\\/]+)[\\/]*")  # C:\ or \\server\
_FAR = "the path of another computer"

# From the strictest: what is done to both names before they are compared, and the difference in words.
_LEVELS: tuple[tuple[Callable[[str], str], str], ...] = (
    (lambda name: unicodedata.normalize("NFC", name), "its name is in another Unicode form (NFC or NFD)"),
    (lambda name: unicodedata.normalize("NFKC", name).strip(), "its name has other blanks"),
    (lambda name: unicodedata.normalize("NFKC", name).strip().casefold(), "its name has other capitals"),
)


def find(root: Path, written: str) -> tuple[Path, str]:
    """Return the file that a table means by `written`, and how its name differs (mostly empty).

    `written` is a path from `root`, or an absolute one. What is not there, or could be several files, is returned as it
    is written; `explain` says more of it.
    """
    plain = root / written
    if plain.is_file():
        return plain, ""
    for base, parts, remark in _readings(root, written):
        remarks: dict[str, None] = {remark: None} if remark else {}
        path = _descend(base, parts, remarks)
        if path is not None and path.is_file() and _is_utf8(path):
            return path, ", ".join(remarks)
    return plain, ""


def explain(path: Path) -> str:
    """Say what is near the place of a file that is not there."""
    if "\\" in path.name or _DRIVE.match(path.name):
        return "it has backslashes, and no end of it is a file below the folder; see --audio-root"
    folder = path.parent
    if not folder.is_dir():
        while not folder.is_dir():
            folder = folder.parent
        return f"there is no folder {path.parent}, only {folder}; see --audio-root"
    form = _LEVELS[-1][0]
    names = _names(folder, form)
    if fitting := names.get(form(path.name), ()):
        if not all(map(_is_utf8, fitting)):
            return "it is there under a name that is not UTF-8: rename it (convmv -f latin1 -t utf8)"
        return f"several files have nearly this name: {', '.join(fitting[:3])}"
    stem = form(path.name).rpartition(".")[0] or form(path.name)
    near = [found[0] for name, found in names.items() if name.rpartition(".")[0] == stem][:3] or [
        names[name][0] for name in difflib.get_close_matches(form(path.name), list(names)[:5000], n=3, cutoff=0.8)
    ]
    if near:
        return f"near to it: {', '.join(near)}"
    return f"its folder has {sum(map(len, names.values()))} other names" if names else "its folder is empty"


def forget() -> None:
    """Forget the folders that were listed; they may have changed."""
    _names.cache_clear()


def _readings(root: Path, written: str) -> list[tuple[Path, list[str], str]]:
    """Return the ways to read a path: folder, names below it, and what is unusual about it."""
    back = "it is written with backslashes" if "\\" in written else ""
    if drive := _DRIVE.match(written):
        parts = re.split(r"[\\/]+", written[drive.end() :])
        return [(root, parts[n:], _FAR) for n in range(len(parts))]
    absolute = Path(written).is_absolute()
    base = Path(Path(written).anchor) if absolute else root
    readings = [(base, [part for part in written.split("/") if part], "")]
    if back:
        readings.append((base, [part for part in re.split(r"[\\/]+", written) if part], back))
    return readings


def _descend(base: Path, parts: list[str], remarks: dict[str, None]) -> Path | None:
    """Go down by names that are there or nearly; None where none or several fit. What differs is noted."""
    path = base
    for part in parts:
        if part in (".", "..") or (path / part).exists():
            path = path / part
            continue
        for form, remark in _LEVELS:
            found = _names(path, form).get(form(part), ())
            if len(found) > 1:
                return None
            if found:
                remarks[remark] = None
                path = path / found[0]
                break
        else:
            return None
    return path


@functools.lru_cache(maxsize=3 * 64)
def _names(folder: Path, form: Callable[[str], str]) -> Mapping[str, tuple[str, ...]]:
    """Return the names in a folder by their form; none where it is not there. Names in Latin-1 are read as such."""
    names: dict[str, tuple[str, ...]] = {}
    try:
        listed = sorted(os.listdir(folder))
    except OSError:
        return names
    for name in listed:
        readable = name if _is_utf8(name) else os.fsencode(name).decode("latin-1")
        names[form(readable)] = (*names.get(form(readable), ()), name)
    return names


def _is_utf8(name: str | Path) -> bool:
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True
