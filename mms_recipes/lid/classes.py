"""Class lists of language identification: which languages a model tells apart, and the number of each.

Meta's models of different size have lists of different order, so a number means nothing without its model's list. The
order is known for 126 and 256 classes (manifests/lid126.txt, lid256.txt); of 4,017 only the set is, and 512, 1,024 and
2,048 were never published as lists. `lid512_ours` and its like are lists of this project, sorted, not Meta's.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from mms_recipes import languages
from mms_recipes.corpora.tables import read_lines

PUBLISHED = ("lid126", "lid256")
OURS = {f"lid{size}_ours": size for size in (512, 1024, 2048, 4017)}
# MMS identifies these under one code, because VoxLingua-107 does (paper section 3.1.1)
MERGED = {"azj": "aze", "azb": "aze"}


def class_list(wanted: str, folders: Iterable[str] = ()) -> list[str]:
    """Return the classes in order: of a name (lid126, lid512_ours), of a file, or, for "", of the folders given.

    A file is a dict.lang.txt (`<class> <count>` a line, or the class alone) or a Hugging Face config.json.
    Raises ValueError or FileNotFoundError.
    """
    if wanted in PUBLISHED:
        return read_classes(_folder() / f"{wanted}.txt")
    if wanted in OURS:
        return _ours(OURS[wanted])
    if wanted:
        if not Path(wanted).is_file():
            raise FileNotFoundError(
                f"task.classes={wanted}: no such file and no such list; expected {', '.join((*PUBLISHED, *OURS))}, "
                "or the path of a dict.lang.txt or config.json"
            )
        return read_classes(Path(wanted))
    return sorted({class_of(folder) for folder in folders})


def class_of(lang: str, classes: Mapping[str, int] | None = None) -> str:
    """Return the class of a language folder: its ISO 639-3 part (`urd-script_arabic`: urd), but of azj and azb, aze.

    A list that has the folder's whole name, or azj itself, goes before that rule.
    """
    iso = lang.partition("-")[0]
    return next((name for name in (lang, iso) if name in (classes or ())), MERGED.get(iso, iso))


def read_classes(path: Path) -> list[str]:
    """Read a class list: dict.lang.txt, one class a line, or the id2label of a config.json.

    Raises ValueError (file:line) when a class is missing, named twice, or malformed.
    """
    named = list(_of_config(path) if path.suffix == ".json" else _of_lines(path))
    first: dict[str, str] = {}
    for place, name in named:
        if name in first:
            raise ValueError(f"{place}: {name!r} is a class a second time, first at {first[name]}")
        first[name] = place
    if not named:
        raise ValueError(f"{path}: no classes inside; expected one a line, as in dict.lang.txt")
    return list(first)


def _of_lines(path: Path) -> Iterable[tuple[str, str]]:
    for number, line in read_lines(path):
        cells = line.split()
        if not cells or len(cells) > 2 or (len(cells) == 2 and not cells[1].isdigit()):
            raise ValueError(f"{path}:{number}: found {line!r}, expected a class, or a class and its count")
        yield f"{path}:{number}", cells[0]


def _of_config(path: Path) -> Iterable[tuple[str, str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    labels = found.get("id2label") if isinstance(found, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(label, str) for label in labels.values()):
        raise ValueError(f"{path}: no id2label inside; expected the config.json of a classification model")
    if absent := [number for number in range(len(labels)) if str(number) not in labels]:
        raise ValueError(f"{path}: id2label has {len(labels)} classes, but none with the number {absent[0]}")
    return ((f"{path}: id2label {number}", labels[str(number)]) for number in range(len(labels)))


def _ours(size: int) -> list[str]:
    """A nested list of this project, sorted: lid256, then languages that MMS transcribes too, then the rest of 4,017.

    Meta added languages by their number of speakers, which is not known here.
    """
    rows = languages.table().values()
    members = [row.id for row in rows if "lid4017" in row.sets]
    transcribed = {row.iso639_3 for row in rows if "asr_all1162" in row.sets}
    chosen = read_classes(_folder() / "lid256.txt")
    rest = sorted(set(members).difference(chosen), key=lambda lang: (lang not in transcribed, lang))
    return sorted([*chosen, *rest][:size])


def _folder() -> Path:
    """Where the lists are: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next(
        folder for folder in (package / "manifests", package.parent / "manifests") if (folder / "lid126.txt").is_file()
    )
