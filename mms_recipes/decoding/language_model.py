"""The files of a language's n-gram model: KenLM's binary or ARPA, its order and vocabulary, and its tuned weights.

A folder of models holds `<lang>/lm.bin`, for word models `<lang>/lexicon.txt`, and after tuning `<lang>/decoding.json`.
They are looked at before KenLM opens them: it reads whatever it does not recognise as an ARPA file.
"""

import mmap
import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydantic

from mms_recipes import files, parsing
from mms_recipes.units import is_last_piece

MODEL, LEXICON, TUNED, DESCRIPTION = "lm.bin", "lexicon.txt", "decoding.json", "lm.json"
WEIGHTS = ("lm_weight", "word_score", "sil_score")
ORDER_OF_WHEELS = 6  # flashlight-text's wheels from PyPI read models up to this order
PAPER_ORDER = 20  # what tools/build_kenlm.py and tools/build_flashlight.py build for: the paper's letter models
ARPA_START = "\\data\\"
HIGHEST_ORDER = re.compile(r"compiled to support up to (\d+)")  # what KenLM says of a model of a higher order
_REMEDY = "build it with tools/build_lm.py"

# kenlm:lm/binary_format.hh. The order stands behind the magic line and values that prove the format of numbers.
_BINARY = b"mmap lm http://kheafield.com/code format version 5\n\0"
_HEADER = struct.Struct("<B3xfi?3xI")  # behind it: order, probing multiplier, type, has a vocabulary, search version
_TYPES = 6  # of KenLM's structures, probing to quantised array trie
_UNFINISHED = b"mmap lm http://kheafield.com/code incomplete\n"
_ORDER_AT = 88
_ARPA_COUNT = re.compile(rb"ngram\s+(\d{1,3})\s*=\s*(\d+)\s*")
_DIGITS = 18  # of a count that are looked at: more are too many anyway
_HEADER_BYTES = 1 << 16


def has_lexicon(folder: Path) -> bool:
    """Return whether the model of a language is one of words, which a lexicon spells."""
    return (folder / LEXICON).is_file()


def read_order(path: Path) -> int:
    """Return the n of an n-gram model in KenLM's binary form or as ARPA text.

    Raises FileNotFoundError when there is none and ValueError when it is another kind of file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {_REMEDY}")
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header.startswith(_BINARY):
        return _binary_order(path, header)
    if header.startswith(_UNFINISHED):
        raise ValueError(f"{path}: build_binary did not finish this file; {_REMEDY} again")
    lines = iter(header.lstrip().splitlines())
    if next(lines, b"").rstrip() != ARPA_START.encode():
        start = header[:24]
        raise ValueError(
            f"{path}: not a language model: it begins with {start!r}, expected KenLM's binary form "
            f"({_BINARY[:7].decode()!r} ...) or ARPA text ({ARPA_START}); {_REMEDY}"
        )
    counts: dict[int, int] = {}
    for line in lines:
        match = _ARPA_COUNT.fullmatch(line)
        if match:
            counts[int(match[1])] = int(match[2][:_DIGITS])
        elif line.strip():
            break
    if not counts:
        raise ValueError(f"{path}: an ARPA file without 'ngram 1=...' lines; {_REMEDY}")
    _check_counts(path, [*counts], [*counts.values()], path.stat().st_size)
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _HEADER_BYTES), os.SEEK_END)
        if not file.read().rstrip().endswith(b"\\end\\"):
            raise ValueError(f"{path}: does not end in \\end\\, an ARPA file that was cut off; copy or {_REMEDY} again")
    return max(counts)


def _binary_order(path: Path, header: bytes) -> int:
    """Return the order of a binary model; ValueError where its header holds what KenLM does not write."""
    size = path.stat().st_size
    if len(header) < _ORDER_AT + _HEADER.size:
        raise ValueError(f"{path}: {size} bytes, a KenLM file that was cut off; copy or {_REMEDY} again")
    order, multiplier, kind, _, _ = _HEADER.unpack_from(header, _ORDER_AT)
    if not (1 <= multiplier <= 100 and 0 <= kind < _TYPES):
        raise ValueError(
            f"{path}: a KenLM file with a broken header (multiplier {multiplier:g}, structure {kind}); copy or "
            f"{_REMEDY} again"
        )
    counts = header[_ORDER_AT + _HEADER.size :][: 8 * order]
    if len(counts) < 8 * order:
        raise ValueError(f"{path}: {size} bytes, a KenLM file that was cut off; copy or {_REMEDY} again")
    _check_counts(path, list(range(1, order + 1)), list(struct.unpack(f"<{order}Q", counts)), size)
    return int(order)


def _check_counts(path: Path, orders: list[int], counts: list[int], size: int) -> None:
    """Raise ValueError unless there are n-grams from 1 on, not more than the file has room for (a bit each)."""
    if orders != list(range(1, len(orders) + 1)) or len(orders) < 2:
        raise ValueError(
            f"{path}: n-grams of the orders {', '.join(map(str, orders)) or 'none'}, expected 1, 2 and so on; copy or "
            f"{_REMEDY} again"
        )
    if counts[0] < 1 or sum(counts) > 8 * size:
        raise ValueError(
            f"{path}: {size:,} bytes cannot hold n-grams in these numbers: {counts}; copy or {_REMEDY} again"
        )


def read_vocabulary(path: Path) -> set[str] | None:
    """Return the words of a model, or the letters of a letter model; None when the binary was built without them.

    Raises what `read_order` raises.
    """
    read_order(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(_BINARY)] != _BINARY:
            return {word.decode("utf-8", errors="replace") for word in _arpa_unigrams(data)}
        start = data.rfind(b"<unk>\0")  # KenLM's first word; the list of words ends the file
        return set(data[start:].decode("utf-8", errors="replace").split("\0")[:-1]) if start >= 0 else None


def _arpa_unigrams(data: mmap.mmap) -> Iterator[bytes]:
    at = data.find(b"\\1-grams:")
    data.seek(max(at, 0))
    data.readline()
    while (line := data.readline()) and not line.startswith(b"\\"):
        if len(cells := line.split()) > 1:
            yield cells[1]


def check_word_model(path: Path, words: Sequence[str]) -> int:
    """Return how many words of its lexicon a model knows.

    Raises ValueError when it knows none, and what `read_order` raises.
    """
    vocabulary = read_vocabulary(path)
    if vocabulary is None:
        return len(words)
    known = sum(word in vocabulary for word in words)
    if not known:
        theirs = " ".join(sorted(vocabulary - {"<s>", "</s>", "<unk>"})[:8])
        raise ValueError(
            f"{path}: knows none of the {len(words):,} words of its lexicon: a model of another language, or a letter "
            f"model (decoding=letter_lm)? It has {theirs} ...; the lexicon {' '.join(words[:8])} ...; {_REMEDY}"
        )
    return known


def check_letter_model(path: Path, letters: Sequence[str]) -> list[str]:
    """Return the letters that a letter model does not know.

    Raises ValueError when it knows none, when most of its vocabulary are no letters of the acoustic model (a word
    model, another script), when one is of letters and the other of pieces of words, and what `read_order` raises.
    """
    vocabulary = read_vocabulary(path)
    if vocabulary is None:
        return []
    vocabulary -= {"<s>", "</s>", "<unk>"}
    if any(map(is_last_piece, letters)) and not any(map(is_last_piece, vocabulary)):
        raise ValueError(
            f"{path}: a model of letters, but the acoustic model writes pieces of words; build it with "
            "tools/build_lm.py and --units sentencepiece or --checkpoint"
        )
    known = vocabulary.intersection(letters)
    if 2 * len(known) < len(vocabulary) or not known:
        theirs = " ".join(sorted(vocabulary)[:8])
        raise ValueError(
            f"{path}: {len(known):,} of its {len(vocabulary):,} entries ({theirs} ...) are letters of the model "
            f"({' '.join(letters[:8])} ...): a model of words (decoding=word_lm), or of another language or script?"
        )
    return [letter for letter in letters if letter not in vocabulary]


class Tuned(parsing.Schema):
    """decoding.json: the weights that tuning found."""

    lm_weight: float | None = None
    word_score: float | None = None
    sil_score: float | None = None


class _Built(parsing.Schema):
    """lm.json: what tools/build_lm.py says of the files that it wrote."""

    sizes: dict[str, int] = pydantic.Field(alias="bytes", default_factory=dict)
    sha256: dict[str, str] = pydantic.Field(default_factory=dict)


def read_tuned(folder: Path) -> dict[str, float]:
    """Return the weights that tuning wrote beside a model, by name; none when it was not tuned.

    Raises ValueError when decoding.json holds something else.
    """
    path = folder / TUNED
    if not path.is_file():
        return {}
    try:
        tuned = parsing.read_json(Tuned, path)
    except ValueError as error:
        raise ValueError(f"{error}; expected numbers for {', '.join(WEIGHTS)}; tune again, or delete it") from None
    found = {name: float(value) for name in WEIGHTS if (value := getattr(tuned, name)) is not None}
    if not found:
        raise ValueError(f"{path}: none of {', '.join(WEIGHTS)} in it; tune again, or delete it")
    return found


def check_whole(folder: Path) -> None:
    """Raise ValueError where lm.bin is not the file that lm.json beside it describes, as far as it does."""
    path, model = folder / DESCRIPTION, folder / MODEL
    if not path.is_file() or not model.is_file():
        return
    built = parsing.read_json(_Built, path)
    size, digest = built.sizes.get(MODEL), built.sha256.get(MODEL)
    wrong = size is not None and size != model.stat().st_size
    if wrong or (digest is not None and digest != files.sha256(model)):
        found = f"{model.stat().st_size:,} bytes, {size:,} when it was built" if wrong and size else "another SHA-256"
        raise ValueError(
            f"{model}: not the file that {DESCRIPTION} describes ({found}): cut off, changed or replaced. {_REMEDY} "
            f"again; if it is another model that you put there, delete {path}"
        )
