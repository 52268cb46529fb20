"""The files of a language's n-gram model: KenLM's binary or ARPA, its order and vocabulary, and its tuned weights.

A folder of models holds `<lang>/lm.bin`, for word models `<lang>/lexicon.txt`, and after tuning `<lang>/decoding.json`.
They are looked at before KenLM opens them: it reads whatever it does not recognise as an ARPA file.
"""

import json
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mms_recipes.units import is_last_piece

MODEL, LEXICON, TUNED = "lm.bin", "lexicon.txt", "decoding.json"
WEIGHTS = ("lm_weight", "word_score", "sil_score")
ORDER_OF_WHEELS = 6  # flashlight-text's wheels from PyPI read models up to this order
PAPER_ORDER = 20  # what tools/build_kenlm.py and tools/build_flashlight.py build for: the paper's letter models
ARPA_START = "\\data\\"
HIGHEST_ORDER = re.compile(r"compiled to support up to (\d+)")  # what KenLM says of a model of a higher order
_REMEDY = "build it with tools/build_lm.py"

# kenlm:lm/binary_format.cc. The order stands behind the magic line and values that prove the format of numbers.
_BINARY = b"mmap lm http://kheafield.com/code format version 5\n\0"
_UNFINISHED = b"mmap lm http://kheafield.com/code incomplete\n"
_ORDER_AT = 88
_ARPA_COUNT = re.compile(rb"ngram\s+(\d+)\s*=\s*\d+\s*")
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
        if len(header) <= _ORDER_AT:
            raise ValueError(f"{path}: {len(header)} bytes, a KenLM file that was cut off; copy or {_REMEDY} again")
        return header[_ORDER_AT]
    if header.startswith(_UNFINISHED):
        raise ValueError(f"{path}: build_binary did not finish this file; {_REMEDY} again")
    lines = iter(header.lstrip().splitlines())
    if next(lines, b"").rstrip() != ARPA_START.encode():
        start = header[:24]
        raise ValueError(
            f"{path}: not a language model: it begins with {start!r}, expected KenLM's binary form "
            f"({_BINARY[:7].decode()!r} ...) or ARPA text ({ARPA_START}); {_REMEDY}"
        )
    orders = []
    for line in lines:
        match = _ARPA_COUNT.fullmatch(line)
        if match:
            orders.append(int(match[1]))
        elif line.strip():
            break
    if not orders:
        raise ValueError(f"{path}: an ARPA file without 'ngram 1=...' lines; {_REMEDY}")
    return max(orders)


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


def read_tuned(folder: Path) -> dict[str, float]:
    """Return the weights that tuning wrote beside a model, by name; none when it was not tuned.

    Raises ValueError when decoding.json holds something else.
    """
    path = folder / TUNED
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); tune again, or delete it") from None
    found = {name: document[name] for name in WEIGHTS if name in document} if isinstance(document, dict) else {}
    wrong = [name for name, value in found.items() if isinstance(value, bool) or not isinstance(value, int | float)]
    if wrong or not found:
        raise ValueError(
            f"{path}: expected numbers for {', '.join(WEIGHTS)}, found {document!r}; tune again, or delete it"
        )
    return {name: float(value) for name, value in found.items()}
