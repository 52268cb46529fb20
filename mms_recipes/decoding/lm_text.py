"""Text for language models: files of any size, normalised as transcripts are, without emoji (MMS paper, appendix B).

Nothing here holds more than a block of text at a time. Files may be compressed (.gz, .xz, .bz2); a line is a sentence.
"""

import bz2
import gzip
import lzma
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, cast

from mms_recipes.text import NORMALIZATIONS

Kind = Literal["word", "letter"]
Encode = Callable[[str], list[str]]  # words into the units of the acoustic model

BLOCK_BYTES = 1 << 22
MAX_LINE_BYTES = 1 << 24
MAX_COUNTED = 8_000_000  # different words in memory at once, about 1 GB

# Emoji are symbols, which normalisation cuts anyway, except those that NFKC would turn into letters (the sign for
# information into "i", Japanese squares into words) and keycaps. Letters in squares that are no emoji stay for NFKC.
_ALWAYS = "\U0001f000-\U0001f0ff\U0001f170-\U0001faff\u231a\u231b\u23e9-\u23fa\u2600-\u27bf\u2b05-\u2b55"
_BEFORE_SELECTOR = (
    "\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u24c2\u25a0-\u25ff\u3030\u303d\u3297\u3299"
)
_EMOJI = re.compile(
    f"(?:[{_ALWAYS}]|[{_BEFORE_SELECTOR}]\ufe0f|[0-9#*]\ufe0f?\u20e3)"
    "[\ufe0f\u200d\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
)


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file; `position` is how far in the (compressed) file they end, bytes."""

    path: Path
    first_line: int
    content: bytes
    position: int


@dataclass
class Sentences:
    """What became of the lines of a block: `text` as the model is built from it, and how often each token is in it.

    `num_bytes` is the normalised text, UTF-8 with spaces and line ends, whatever the tokens are.
    """

    text: bytes
    counts: Counter[str]
    lines: int
    usable: int
    num_bytes: int


def remove_emoji(text: str) -> str:
    """Return the text with a space for every emoji (a sequence of joined ones, a keycap, a flag)."""
    return _EMOJI.sub(" ", text)


def open_text(path: Path) -> IO[bytes]:
    """Open a file that may be compressed, by its ending; FileNotFoundError when there is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give text with a sentence a line (also .gz, .xz, .bz2)")
    openers: dict[str, Callable[..., object]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
    return cast("IO[bytes]", openers.get(path.suffix, open)(path, "rb"))


def read_blocks(path: Path) -> Iterator[Block]:
    """Yield a file as blocks of whole lines.

    Raises ValueError for a broken archive, and for a line of more than 16 MB: that is no text of sentences.
    """
    line = 1
    rest = b""
    try:
        with open_text(path) as file:
            raw = getattr(file, "fileobj", None) or getattr(file, "_fp", None) or file
            while block := file.read(BLOCK_BYTES):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield Block(path, line, whole, raw.tell())
                    line += whole.count(b"\n") + 1
                elif len(rest) > MAX_LINE_BYTES:
                    raise ValueError(
                        f"{path}:{line}: more than {MAX_LINE_BYTES >> 20} MB in one line; expected sentences"
                    )
            if rest:
                yield Block(path, line, rest, raw.tell())
    except (EOFError, lzma.LZMAError, gzip.BadGzipFile, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path}: cannot be read to its end ({error}); get the file again") from error


def prepare(block: Block, lang: str, normalization: str, encode: Encode | None) -> Sentences:
    """Normalise the lines of a block for a language; those that come out empty are left out.

    Their tokens are words, or what `encode` makes of them (letters).

    Raises ValueError (file:line) for a line that is not UTF-8, or holds the mark of word ends where that is a letter.
    """
    normalize = NORMALIZATIONS[normalization]
    found = Sentences(b"", Counter(), 0, 0, 0)
    kept = []
    for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
        found.lines += 1
        try:
            sentence = normalize(remove_emoji(line.decode("utf-8").removeprefix("\ufeff")), lang)
            tokens = " ".join(encode(sentence)) if encode else sentence
        except UnicodeDecodeError as error:
            raise ValueError(f"{block.path}:{number}: not UTF-8 ({error.reason}); save the file as UTF-8") from None
        except ValueError as error:
            raise ValueError(f"{block.path}:{number}: {error}") from None
        if sentence:
            found.usable += 1
            found.num_bytes += len(sentence.encode()) + 1
            found.counts.update(tokens.split())
            kept.append(tokens)
    found.text = "".join(f"{tokens}\n" for tokens in kept).encode()
    return found


def add_counts(total: Counter[str], more: Counter[str], limit: int = MAX_COUNTED) -> int:
    """Add counts to `total`; when it holds more than `limit` words, forget the rarest half of what is allowed.

    Returns the count up to which words were forgotten (0: none were); the most frequent words are never near that.
    """
    total.update(more)
    if len(total) <= limit:
        return 0
    kept = dict(total.most_common(limit // 2))
    floor = max(count for word, count in total.items() if word not in kept)
    total.clear()
    total.update(kept)
    return floor
