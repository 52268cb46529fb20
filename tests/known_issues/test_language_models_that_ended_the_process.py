"""A lexicon line of 100,000 units, or order 0 in the header of lm.bin, ended evaluate with a segmentation fault.

Whatever the files of a language model hold, looking at them ends in a model that can be used or in a message.
"""

import base64
import json
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from mms_recipes.decoding import beam, language_model
from tests.known_issues import commands
from tests.known_issues.commands import Ended
from tests.known_issues.lab import Lab
from tests.unit.test_beam import LEXICON, PROBING, SYMBOLS, TRIE, WORDS, chain_arpa

pytest.importorskip("flashlight.lib.text.decoder", reason="no flashlight-text: language models were NOT tested")

BINARIES = {name: zlib.decompress(base64.b85decode(text)) for name, text in {"trie": TRIE, "probing": PROBING}.items()}
ORDER, KIND, COUNTS = 88, 96, 108  # places in a binary's header


def look_at(folder: Path) -> int:
    """Look at a word model as evaluate, tune and transcribe do before they begin, and load and search it."""
    try:
        beam.check_files(folder, SYMBOLS, words=True)
    except (ValueError, OSError) as error:
        print(error)
        return 1
    beam._try_model(SYMBOLS, folder / "lm.bin", beam.read_lexicon(folder / "lexicon.txt", SYMBOLS))
    return 0


def look_at_each(folder: Path, contents: list[bytes], name: str) -> int:
    """Look at a model with each of these contents of a file; stop with a traceback at anything but an answer."""
    ends = [0, 0]
    for content in contents:
        (folder / name).write_bytes(content)
        ends[look_at(folder)] += 1
    print("taken, refused:", *ends)
    return 0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "lm.bin").write_bytes(BINARIES["trie"])
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    return tmp_path


def put(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


@pytest.mark.parametrize("kind", BINARIES)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: put(b, ORDER, b"\0"), "orders none"),
        (lambda b: put(b, ORDER, b"\1"), "orders 1"),
        (lambda b: put(b, ORDER, b"\5"), ""),
        (lambda b: put(b, ORDER, b"\xff"), ""),
        (lambda b: put(b, KIND, struct.pack("<i", 9)), "structure 9"),
        (lambda b: put(b, KIND, struct.pack("<i", -1)), "structure -1"),
        (lambda b: put(b, ORDER + 4, struct.pack("<f", float("nan"))), "multiplier nan"),
        (lambda b: put(b, COUNTS, struct.pack("<Q", 2**60)), "cannot hold"),
        (lambda b: put(b, COUNTS, struct.pack("<Q", 0)), "cannot hold"),
        (lambda b: put(b, COUNTS + 8, struct.pack("<Q", 2**63)), "cannot hold"),
        (lambda b: b[:100], "cut off"),
        (lambda b: b[: len(b) // 2], ""),
        (lambda b: b[:120] + random.Random(1).randbytes(len(b) - 120), ""),
        (lambda b: b"", "not a language model"),
    ],
)
def test_broken_binaries_are_refused(model: Path, kind: str, change: Callable[[bytes], bytes], said: str) -> None:
    (model / "lm.bin").write_bytes(change(BINARIES[kind]))
    ended = commands.call(look_at, model)
    assert ended.code in (0, 1) and "Traceback" not in ended.output, ended
    if said:
        assert ended.code == 1 and str(model / "lm.bin") in ended.output and said in ended.output, ended


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WORDS[: len(WORDS) // 2], "cut off"),
        (WORDS.replace("ngram 2=2", "ngram 2=99999999999999999999"), "cannot hold"),
        (WORDS.replace("ngram 1=6", "ngram 1=0"), "cannot hold"),
        (WORDS.replace("ngram 1=6", "ngram 7=6"), "orders 7, 2"),
        (WORDS.replace("ngram 2=2\n", ""), "orders 1"),
        (WORDS.replace("ngram 2=2", "ngram 2=3"), "KenLM cannot read"),
        (WORDS.replace("-0.3\n-1\tac", "nan\n-1\tac"), ""),
        (WORDS.replace("ba ab", "ba xx"), "KenLM cannot read"),
        (WORDS.replace("ab", "a\0b"), ""),
        (chain_arpa(2).decode() + "\n\\more\\\n", "cut off"),
    ],
)
def test_broken_arpa_files_are_refused(model: Path, content: str, said: str) -> None:
    (model / "lm.bin").write_text(content)
    ended = commands.call(look_at, model)
    assert ended.code in (0, 1) and "Traceback" not in ended.output, ended
    if said:
        assert ended.code == 1 and str(model / "lm.bin") in ended.output and said in ended.output, ended


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LEXICON + "zz\t" + "a " * 100_000 + "|\n", "lexicon.txt:4: 'zz' is spelt with 100,001 units"),
        (LEXICON + "ad a d |\n", "lexicon.txt:4: 'ad a d |': 'd' is not among"),
        (LEXICON + "word\n", "lexicon.txt:4: found 'word'"),
        ("", "holds no words"),
        ("\n\n", "holds no words"),
        ("x " * 10 + "\n", "lexicon.txt:1"),
        (LEXICON + "\x1b[31m \x1b[2J\n", r"\x1b[2J"),
    ],
)
def test_broken_lexicons_are_refused(model: Path, content: str, said: str) -> None:
    (model / "lexicon.txt").write_text(content)
    ended = commands.call(look_at, model)
    assert ended.code == 1 and said in ended.output and len(ended.output) < 2000, ended
    assert "\x1b" not in ended.output


def test_lexicons_that_repeat_themselves_are_taken(model: Path) -> None:
    (model / "lexicon.txt").write_text(LEXICON * 3 + "ab a b b |\n" + "".join(f"w{n} a b |\n" for n in range(20)))
    assert commands.call(look_at, model).code == 0


@pytest.mark.parametrize("kind", [*BINARIES, "arpa", "lexicon"])
def test_mutated_files_end_in_a_model_or_a_message(model: Path, kind: str) -> None:
    rng = random.Random(f"2{kind}")
    whole = BINARIES.get(kind) or (WORDS if kind == "arpa" else LEXICON).encode()
    contents = []
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3, 10))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        contents.append(bytes(content[: rng.choice((len(content), len(content), rng.randrange(len(content)))) or 1]))
    ended = commands.call(look_at_each, model, contents, "lexicon.txt" if kind == "lexicon" else "lm.bin")
    assert ended.code == 0, ended


def test_a_model_that_build_lm_wrote_is_compared_with_its_description(model: Path) -> None:
    size = len(BINARIES["trie"])
    (model / "lm.json").write_text(json.dumps({"bytes": {"lm.bin": size + 1}}))
    said = commands.call(look_at, model).output
    assert f"{size:,} bytes, {size + 1:,} when it was built" in said and f"delete {model / 'lm.json'}" in said
    digest = language_model.files.sha256(model / "lm.bin")
    (model / "lm.json").write_text(json.dumps({"bytes": {"lm.bin": size}, "sha256": {"lm.bin": digest}}))
    assert commands.call(look_at, model).code == 0
    changed = bytearray(BINARIES["trie"])
    changed[-3] ^= 1  # in a word
    (model / "lm.bin").write_bytes(changed)
    assert "another SHA-256" in commands.call(look_at, model).output
    (model / "lm.json").write_text("[]")
    assert f"{model / 'lm.json'}: all of it: found []" in commands.call(look_at, model).output


def test_evaluate_tune_and_transcribe_end_in_a_message(tiny: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "lm/eng"
    folder.mkdir(parents=True)
    (folder / "lm.bin").write_bytes(put(BINARIES["trie"], ORDER, b"\0"))
    (folder / "lexicon.txt").write_text(LEXICON)
    common = (f"checkpoint={tiny.adapters}", f"data={tiny.data}", "langs=[eng]", f"decoding.lm={folder.parent}")
    ends: list[Ended] = [
        commands.run("evaluate", *common, "decoding=lm", f"out={tmp_path / 'out'}"),
        commands.run("tune", *common, f"out={tmp_path / 'tuned'}"),
        commands.run("transcribe", tiny.wav, "--checkpoint", tiny.adapters, "--lang", "eng", "--lm", folder.parent),
    ]
    for ended in ends:
        assert ended.is_refused() and "lm.bin" in ended.output, ended
