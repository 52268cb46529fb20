"""The languages of MMS: ids, names, scripts, FLEURS codes and the sets they belong to.

An id is an ISO 639-3 code, with ``-script_x`` or ``-dialect_x`` where MMS keeps several forms of one code apart, so a
set of 1,107 languages has 1,143 ids. The table is ``manifests/languages.tsv``; its README counts the sets.
"""

import csv
import difflib
import functools
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from mms_recipes import language_codes
from mms_recipes.corpora.tables import read_text

EXTRA_TABLE_VARIABLE = "MMS_RECIPES_LANGUAGES"
COLUMNS = ("id", "iso639_3", "variant", "name", "script", "fleurs", "sets")

# Languages scored by characters, because their scripts put no spaces between words (fairseq:examples/mms/lid_rerank).
CHARACTER_SCORED = frozenset(("adx", "bod", "cmn", "dzo", "jpn", "khg", "khm", "lao", "mya", "tha", "yue"))


@dataclass(frozen=True)
class Language:
    """One row of the table; ``script`` and ``fleurs`` are empty where unknown or where there is none."""

    id: str
    iso639_3: str
    variant: str
    name: str
    script: str
    fleurs: str
    sets: tuple[str, ...]


def table() -> Mapping[str, Language]:
    """Return every known language by id, in the order of the table; rows of the extra table come last.

    Raises FileNotFoundError when a table is missing and ValueError (file:line) when a row is malformed.
    """
    return _load(_table_path(), os.environ.get(EXTRA_TABLE_VARIABLE, ""))


def language(lang: str) -> Language:
    """Return the language with this id; ValueError with the nearest ids and names when there is none."""
    try:
        return table()[lang]
    except KeyError:
        raise ValueError(_unknown(lang)) from None


def name(lang: str) -> str:
    """Return the name of a language (English); its id where the table does not have it."""
    row = table().get(lang)
    return row.name if row and row.name else lang


def named(lang: str) -> str:
    """Return the id of a language with its name: eng (English)."""
    return lang if (known := name(lang)) == lang else f"{lang} ({known})"


def set_names() -> tuple[str, ...]:
    """Return the names of all language sets, sorted."""
    return tuple(sorted({name for row in table().values() for name in row.sets}))


def resolve(names: Iterable[str] | str) -> list[str]:
    """Expand ids and set names, mixed, into ids: first-seen order, no duplicates; a set keeps the order of the table.

    A single string is read as a comma-separated list. ValueError names what is unknown, with the nearest spellings.
    """
    wanted = names.split(",") if isinstance(names, str) else list(names)
    wanted = [name.strip() for name in wanted if name.strip()]
    if not wanted:
        raise ValueError(f"no language was named; give ids such as eng, or sets: {', '.join(set_names())}")
    members: dict[str, list[str]] = {}
    for row in table().values():
        for set_name in row.sets:
            members.setdefault(set_name, []).append(row.id)
    found: dict[str, None] = {}
    for name in wanted:
        if name in table():
            found[name] = None
        elif name in members:
            found.update(dict.fromkeys(members[name]))
        else:
            raise ValueError(_unknown(name))
    return list(found)


def from_fleurs(code: str) -> Language:
    """Return the language of a FLEURS code such as ``en_us``; ValueError when FLEURS has no such code."""
    for row in table().values():
        if code and row.fleurs == code:
            return row
    codes = [row.fleurs for row in table().values() if row.fleurs]
    near = difflib.get_close_matches(code, codes, n=3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    if meant := _meant(code)[1] if code else []:
        hint += f"; the id may be {', '.join(map(_shown, meant))}"
    raise ValueError(
        f"unknown FLEURS code {code!r}{hint}. A corpus of another language in FLEURS's layout names its folder by the "
        f"id of the language, or by the code in the column 'fleurs' of the table in ${EXTRA_TABLE_VARIABLE}"
    )


def shard(langs: Sequence[str], num_shards: int, shard: int, what: str = "languages") -> list[str]:
    """Return the languages of one shard (0-based): every ``num_shards``-th, so the shards are disjoint and even.

    ``what`` they are called in messages, where they are something else.

    ValueError when the shard is out of range or would be empty.
    """
    if num_shards < 1:
        raise ValueError(f"num_shards is {num_shards}, expected at least 1")
    if not 0 <= shard < num_shards:
        raise ValueError(f"shard is {shard}, expected 0 to {num_shards - 1} (num_shards={num_shards}, counted from 0)")
    if num_shards > len(langs):
        raise ValueError(f"{num_shards} shards for {len(langs)} {what}: some would be empty; lower num_shards")
    return list(langs[shard::num_shards])


def is_character_scored(lang: str) -> bool:
    """Say whether the error rate of this language is counted in characters (CER) rather than words (WER)."""
    return lang.partition("-")[0] in CHARACTER_SCORED


def _table_path() -> Path:
    package = Path(__file__).resolve().parent
    candidates = [package / "manifests" / "languages.tsv", package.parent / "manifests" / "languages.tsv"]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"no languages.tsv at {candidates[0]} nor {candidates[1]}; install the package again")


@functools.lru_cache(maxsize=4)
def _load(path: Path, extra: str) -> Mapping[str, Language]:
    rows = _read(path)
    if extra:
        if not Path(extra).is_file():
            raise FileNotFoundError(
                f"${EXTRA_TABLE_VARIABLE} is {extra!r}, but there is no such file; unset or mend it"
            )
        added = _read(Path(extra))
        both = sorted(rows.keys() & added.keys())
        if both:
            raise ValueError(
                f"{extra}: {', '.join(both[:5])} already in {path}; give only languages that are not there"
            )
        rows |= added
    return MappingProxyType(rows)


def _read(path: Path) -> dict[str, Language]:
    rows: dict[str, Language] = {}
    with io.StringIO(read_text(path), newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(lines, [])
        if tuple(header) != COLUMNS:
            raise ValueError(f"{path}:1: header is {header}, expected {list(COLUMNS)} separated by tabs")
        for number, cells in enumerate(lines, start=2):
            if len(cells) != len(COLUMNS):
                raise ValueError(
                    f"{path}:{number}: {len(cells)} columns, expected {len(COLUMNS)}: {', '.join(COLUMNS)}"
                )
            if not cells[0] or cells[0] in rows:
                raise ValueError(f"{path}:{number}: the id {cells[0]!r} is empty or a second time in the table")
            lang, iso639_3, variant, name, script, fleurs, sets = cells
            in_sets = tuple(filter(None, sets.split(",")))
            rows[lang] = Language(lang, iso639_3, variant, name, script, fleurs, in_sets)
    return rows


def _unknown(name: str) -> str:
    """Say what is wrong with a name that is neither an id nor a set, with what may have been meant."""
    kind, rows = _meant(name)
    nearest = ", ".join([_shown(row) for row in rows] or dict.fromkeys(_hints(name.lower().strip()))) or "none"
    said = f", which is {kind}" if rows else ""
    return (
        f"unknown language or set {name!r}{said}; nearest: {nearest}. Ids are ISO 639-3 codes "
        f"(manifests/languages.tsv), sets are {', '.join(set_names())}. For a language that is not in the table, add a "
        f"row with the same header in a file of your own and name it in ${EXTRA_TABLE_VARIABLE}"
    )


def _meant(name: str) -> tuple[str, list[Language]]:
    """Return what kind of code a name is, and the languages that it may mean; those of its script if it names one."""
    rows = table().values()
    fleurs = name.strip().lower().replace("-", "_")
    if exact := [row for row in rows if row.fleurs == fleurs]:
        return "a code of FLEURS", exact
    found = language_codes.meaning(name, {row.iso639_3 for row in rows})
    if found is None:
        return "", []
    kind, codes, script = found
    meant = [row for code in codes for row in rows if row.iso639_3 == code]
    return kind, [row for row in meant if script and row.script == script] or meant


def _hints(wanted: str) -> list[str]:
    """Return ids with names, or sets, that a mistyped name may have meant; the languages of most sets come first."""
    rows = sorted(table().values(), key=lambda row: -len(row.sets))
    code = wanted.replace("-", "_")
    meant = [row for row in rows if wanted in (row.id, row.name.lower().partition(" (")[0]) or row.fleurs == code]
    if not meant:
        names = {row.name.lower(): row for row in rows}
        meant += [row for row in rows if wanted in row.name.lower().split() or f"{code}_" in f"{row.fleurs}_"][:4]
        meant += [names[near] for near in difflib.get_close_matches(wanted, names, n=3, cutoff=0.7)]
        meant += [table()[near] for near in difflib.get_close_matches(wanted, table(), n=3, cutoff=0.7)]
    return [_shown(row) for row in meant[:6]] + difflib.get_close_matches(wanted, set_names(), n=2)


def _shown(row: Language) -> str:
    return f"{row.id} ({row.name})"
