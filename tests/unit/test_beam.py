"""Beam search against greedy search and brute force; files that are no models; work in parallel processes."""

import base64
import itertools
import math
import os
import re
import signal
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mms_recipes.decoding import beam, language_model, pool
from mms_recipes.decoding.beam import BeamOptions, SearchSpace
from mms_recipes.decoding.greedy import greedy
from mms_recipes.decoding.lexicon import read_lexicon

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SYMBOLS = [*SPECIAL, "|", "a", "b", "c"]
LEXICON = "ab a b |\nac a c |\nba b a |\n"

WORDS = """\\data\\
ngram 1=6
ngram 2=2

\\1-grams:
-2\t<unk>\t0
0\t<s>\t-0.3
-1\t</s>\t0
-1\tab\t-0.3
-1\tac\t-0.3
-1\tba\t-0.3

\\2-grams:
-0.2\tba ab
-0.3\t<s> ba

\\end\\
"""
LETTERS = {("<unk>",): -2.0, ("</s>",): -1.1, ("|",): -0.9, ("a",): -0.7, ("b",): -1.3, ("c",): -1.9}
BACKOFFS = {"<unk>": 0.0, "<s>": -0.2, "|": -0.4, "a": -0.3, "b": -0.1, "c": -0.25}
LETTER_PAIRS = {("<s>", "b"): -0.5, ("b", "a"): -0.3, ("a", "|"): -0.35, ("|", "</s>"): -0.15, ("a", "b"): -0.4}
# WORDS as KenLM's build_binary made it: `build_binary trie words.arpa words.bin`, and with `probing`
TRIE = (
    "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?BUFY7Odhajf{KAK8;TqRutM"
    "pAI>o(~ZKVu9E(ZVG)VeQeQ@zW<f4-R+TshxA))qg=zF)=K{ZCu;Ad=PtAO|4v8D`C#xev*0`?2vEk@z5j5vM$+TaiI-TG}U9W8=&0$bvSddD("
    "UhHpO-fiAfBJ$qY97KxR@R0|1U@NTm"
)
PROBING = (
    "c-qU&O)OBz$yLZGDJihh*U!#KO-##7%}LQq&d=3P&QD2INXswEO)OC;OD!tS%+FIW<zhg9274f}pAks>2Lg}?BUFY7OdhaD7Gpz^LjX1g++b6^"
    "%fWxXnHel-;#@i3Kh_pM$Of79<6`i?O|AQqn1SqqI>o(~ZKYs4?^m&Q|I-#d$cky~0g&TCj9D{h?gKLSL--B$Fg}!q@*!YpSVfho@y+FD&-m;"
    "^Hf(yNX;#XHCG$aQZA$a9?HFu|fmk0%BqlK=CNm@@G5`RWz)<A"
)


def letter_arpa() -> str:
    singles = [f"{p}\t{u[0]}\t{BACKOFFS.get(u[0], 0)}" for u, p in LETTERS.items()] + [f"0\t<s>\t{BACKOFFS['<s>']}"]
    pairs = [f"{p}\t{a} {b}" for (a, b), p in LETTER_PAIRS.items()]
    counts = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(pairs)}", ""]
    return "\n".join([*counts, "\\1-grams:", *singles, "", "\\2-grams:", *pairs, "", "\\end\\", ""])


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """The folder of a language with a 3-word model."""
    (tmp_path / "lm.bin").write_text(WORDS)
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    return tmp_path


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    (tmp_path / "lm.bin").write_text(letter_arpa())
    return tmp_path


def emissions(*frames: dict[str, float]) -> np.ndarray:
    """Log-probabilities from the probabilities of some units; `_` is the blank."""
    rows = np.full((len(frames), len(SYMBOLS)), 1e-6)
    for row, frame in zip(rows, frames, strict=True):
        for symbol, probability in frame.items():
            row[SYMBOLS.index("<s>" if symbol == "_" else symbol)] = probability
    return np.log(rows / rows.sum(1, keepdims=True)).astype(np.float32)


# "ba|ac|", but the last c is nearly a b
UNCLEAR = emissions(
    {"b": 1}, {"a": 1}, {"|": 0.9, "_": 0.1}, {"_": 1}, {"a": 1}, {"c": 0.55, "b": 0.45}, {"|": 1}, {"_": 1}
)


def greedy_text(emissions_TV: np.ndarray) -> str:
    (units,) = greedy(torch.from_numpy(emissions_TV)[None], torch.tensor([len(emissions_TV)]))
    return "".join(SYMBOLS[unit] for unit in units)


# ---- searches


def test_a_model_of_three_words_flips_the_greedy_answer(words: Path) -> None:
    assert greedy_text(UNCLEAR) == "ba|ac|"
    space = beam.load_space(words, SYMBOLS, words=True)
    (best,) = space.decoder(BeamOptions(lm_weight=2, word_score=-1)).decode(UNCLEAR)
    assert best.words == ["ba", "ab"]
    (best,) = space.decoder(BeamOptions(lm_weight=0.01, word_score=-1)).decode(UNCLEAR)
    assert best.words == ["ba", "ac"]


def test_a_letter_model_flips_the_greedy_answer(letters: Path) -> None:
    space = beam.load_space(letters, SYMBOLS, words=False)
    (best,) = space.decoder(BeamOptions(lm_weight=1)).decode(UNCLEAR)
    assert best.words is None
    assert "".join(SYMBOLS[unit] for unit in best.units).strip("|") == "ba|ab"
    (best,) = space.decoder(BeamOptions(lm_weight=0)).decode(UNCLEAR)
    assert "".join(SYMBOLS[unit] for unit in best.units).strip("|") == "ba|ac"


def letter_score(units: list[str]) -> float:
    total, before = 0.0, "<s>"
    for unit in [*units, "</s>"]:
        pair = (before, unit)
        total += LETTER_PAIRS[pair] if pair in LETTER_PAIRS else BACKOFFS[before] + LETTERS[unit,]
        before = unit
    return total


def test_letter_search_finds_the_best_of_all_paths(letters: Path) -> None:
    """Every path of 5 frames over blank, |, a, b, c, scored by hand; units that the model lacks are out of reach."""
    generator = np.random.default_rng(3)
    space = beam.load_space(letters, SYMBOLS, words=False)
    used = [0, *range(4, len(SYMBOLS))]
    options = BeamOptions(beam_size=5000, beam_size_token=len(SYMBOLS), lm_weight=1.7, sil_score=0.4)
    for _ in range(4):
        scores_TV = np.full((5, len(SYMBOLS)), -60.0, np.float32)
        scores_TV[:, used] = torch.from_numpy(generator.normal(0, 1.5, (5, len(used)))).log_softmax(-1).numpy()
        best = -math.inf
        for path in itertools.product(used, repeat=5):
            units = [SYMBOLS[unit] for unit, _ in itertools.groupby(path) if unit]
            # the search begins in silence: a path that starts with | does not score it as a new letter
            units = units[1:] if path[0] == 4 else units
            emission = float(sum(scores_TV[frame, unit] for frame, unit in enumerate(path)))
            best = max(best, emission + 1.7 * letter_score(units) + 0.4 * path.count(4))
        (found,) = space.decoder(options).decode(scores_TV)
        assert found.score == pytest.approx(best, abs=1e-4)


def test_nbest_is_sorted_and_its_scores_add_up(words: Path) -> None:
    options = BeamOptions(lm_weight=1.5, word_score=-0.7, sil_score=0.0, nbest=4)
    found = beam.load_space(words, SYMBOLS, words=True).decoder(options).decode(UNCLEAR)
    assert len(found) == 4 and found == sorted(found, key=lambda hypothesis: -hypothesis.score)
    for hypothesis in found:
        assert hypothesis.words is not None
        parts = hypothesis.emission_score + 1.5 * hypothesis.lm_score - 0.7 * len(hypothesis.words)
        # the end of the sentence is in the score, and not in lm_score: flashlight's own books
        assert abs(parts - hypothesis.score) < 1.5 * 1.5
    assert {" ".join(hypothesis.words or []) for hypothesis in found} >= {"ba ab", "ba ac"}


def test_options_change_the_search(words: Path) -> None:
    space = beam.load_space(words, SYMBOLS, words=True)
    plain = space.decoder(BeamOptions()).decode(UNCLEAR)[0]
    added = space.decoder(BeamOptions(log_add=True)).decode(UNCLEAR)[0]
    assert added.score > plain.score and added.words == plain.words
    silent = space.decoder(BeamOptions(sil_score=1.0)).decode(UNCLEAR)[0]
    assert silent.score > plain.score + 1.5
    unfinished = emissions({"b": 1}, {"|": 1})
    with_unknown = space.decoder(BeamOptions(unk_score=0.0)).decode(unfinished)[0]
    assert with_unknown.words and "<unk>" in with_unknown.words


def test_no_frames_is_no_words(words: Path) -> None:
    decoder = beam.load_space(words, SYMBOLS, words=True).decoder(BeamOptions(nbest=3))
    (found,) = decoder.decode(np.zeros((0, len(SYMBOLS)), np.float32))
    assert found.words == [] and found.units == []


def test_emissions_that_are_not_this_models(words: Path) -> None:
    decoder = beam.load_space(words, SYMBOLS, words=True).decoder(BeamOptions())
    with pytest.raises(ValueError, match="emissions of 7 units, expected 8"):
        decoder.decode(UNCLEAR[:, :7])
    with pytest.raises(ValueError, match="not finite"):
        decoder.decode(np.where(UNCLEAR > -1, np.nan, UNCLEAR))


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("beam_size", 0, "decoding.beam_size is 0, expected at least 1"),
        ("beam_size_token", -1, "decoding.beam_size_token is -1, expected at least 1"),
        ("nbest", 0, "decoding.nbest is 0, expected at least 1"),
        ("nbest", 501, "decoding.nbest is 501, but decoding.beam_size only 500"),
        ("beam_threshold", 0.0, "decoding.beam_threshold is 0.0, expected more than 0"),
        ("lm_weight", math.nan, "decoding.lm_weight is nan, expected a finite number"),
    ],
)
def test_settings_that_cannot_be(setting: str, value: float, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        BeamOptions(**{setting: value})  # type: ignore[arg-type]


# ---- files


@pytest.mark.parametrize("packed", [TRIE, PROBING])
def test_binary_models_are_read_as_their_text(words: Path, packed: str) -> None:
    binary = words / "words.bin"
    binary.write_bytes(zlib.decompress(base64.b85decode(packed)))
    assert language_model.read_order(binary) == language_model.read_order(words / "lm.bin") == 2
    assert language_model.read_vocabulary(binary) == language_model.read_vocabulary(words / "lm.bin")
    lexicon = read_lexicon(words / "lexicon.txt", SYMBOLS)
    found = [SearchSpace(SYMBOLS, path, lexicon).decoder(BeamOptions()).decode(UNCLEAR) for path in words.glob("*.bin")]
    assert found[0][0].words == found[1][0].words == ["ba", "ab"]
    assert found[0][0].score == pytest.approx(found[1][0].score)


def chain_arpa(order: int) -> bytes:
    """A model of this order that knows runs of `a`; of order 7 to 20, KenLM of the wheels does not read it."""
    lines = ["\\data\\", "ngram 1=4", *(f"ngram {n}=1" for n in range(2, order + 1)), "", "\\1-grams:"]
    lines += [f"-1\t{word}\t-0.1" for word in ("<unk>", "<s>", "</s>", "a")]
    for n in range(2, order + 1):
        lines += ["", f"\\{n}-grams:", "-0.5\t" + " ".join("a" * n) + ("" if n == order else "\t-0.1")]
    return "\n".join([*lines, "", "\\end\\", ""]).encode()


def test_a_model_of_a_higher_order_than_kenlm_reads(words: Path) -> None:
    highest = beam.highest_order()
    (words / "lm.bin").write_bytes(chain_arpa(highest + 1))
    told = (
        rf"a {highest + 1}-gram model; .* reads up to order {highest} here.*python tools/build_flashlight\.py \.kenlm"
    )
    with pytest.raises(ValueError, match=told):
        beam.load_space(words, SYMBOLS, words=True)


def test_a_letter_model_of_the_papers_order_is_searched(tmp_path: Path) -> None:
    if beam.highest_order() < 20:
        pytest.skip("flashlight-text reads up to order 6; tools/build_flashlight.py: this test did NOT run")
    (tmp_path / "lm.bin").write_bytes(chain_arpa(20))
    model = SearchSpace(SYMBOLS, tmp_path / "lm.bin").model
    state, scores = model.start(True), []
    for _ in range(24):
        state, score = model.score(state, SYMBOLS.index("a"))
        scores.append(score)
    assert scores == pytest.approx([-1.0, *[-0.5] * 23])  # a known n-gram at every length, none falls back


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (np.random.default_rng(0).bytes(5000), "not a language model: it begins with b"),
        (b"", "not a language model: it begins with b''"),
        (b"hello\nworld\n", "not a language model: it begins with b'hello"),
        (b"\x1f\x8b\x08\x00 packed", "not a language model: it begins with"),
        (b"\\data\\\nno counts here\n", "an ARPA file without 'ngram 1=...' lines"),
        (zlib.decompress(base64.b85decode(TRIE))[:60], "60 bytes, a KenLM file that was cut off"),
        (zlib.decompress(base64.b85decode(TRIE))[:160], "KenLM cannot read this model; build it again"),
        (b"mmap lm http://kheafield.com/code incomplete\n" + b"\0" * 100, "build_binary did not finish this file"),
        (WORDS[:90].encode(), "does not end in \\end\\, an ARPA file that was cut off"),
    ],
)
def test_a_file_that_is_no_model(words: Path, content: bytes, told: str) -> None:
    (words / "lm.bin").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(words / 'lm.bin'))}: .*{re.escape(told)}"):
        beam.load_space(words, SYMBOLS, words=True)


def test_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"lm\.bin: no such file; build it with tools/build_lm\.py"):
        beam.load_space(tmp_path, SYMBOLS, words=True)


def test_models_of_another_language_or_kind(words: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"0 of its 3 entries \(ab ac ba \.\.\.\) are letters .*decoding=word_lm"):
        beam.check_files(words, SYMBOLS, words=False)
    (words / "lexicon.txt").write_text("cc c c |\nca c a |\n")
    with pytest.raises(ValueError, match="knows none of the 2 words of its lexicon: a model of another language"):
        beam.check_files(words, SYMBOLS, words=True)
    (words / "lexicon.txt").write_text("cc c c |\nba b a |\n")
    assert beam.check_files(words, SYMBOLS, words=True)
    assert "does not know 1 of 2 words of its lexicon" in caplog.text
    caplog.clear()
    beam.load_space(words, SYMBOLS, words=True)
    assert not caplog.text  # said once, by who looked at it
    (words / "lm.bin").write_text(letter_arpa())
    with pytest.raises(ValueError, match=r"0 of its 4 entries .* letters of the model \(д о м \.\.\.\)"):
        beam.check_files(words, [*SPECIAL, "д", "о", "м"], words=False)


def test_tuned_weights(tmp_path: Path) -> None:
    assert language_model.read_tuned(tmp_path) == {}
    path = tmp_path / "decoding.json"
    path.write_text('{"lm_weight": 3, "word_score": -0.5, "wer": 12.0}')
    assert language_model.read_tuned(tmp_path) == {"lm_weight": 3.0, "word_score": -0.5}
    for text, told in (
        ("{", "1: no JSON"),
        ('{"lm_weight": "3"}', " lm_weight: found '3'"),
        ('{"lmweight": 3}', " none of"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"decoding\.json:{told}"):
            language_model.read_tuned(tmp_path)


# ---- processes

needs_fork = pytest.mark.skipif(not pool.can_fork(), reason="this platform cannot fork: parallel search NOT tested")


def decoded(work: Callable[[int], object], count: int, workers: int) -> dict[int, object]:
    return dict(pool.work_through(work, count, workers, lambda item: f"utterance {item}"))


@needs_fork
@pytest.mark.parametrize("kind", ["words", "letters"])
def test_many_processes_find_what_one_finds(tmp_path: Path, kind: str) -> None:
    (tmp_path / "lm.bin").write_text(WORDS if kind == "words" else letter_arpa())
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    decoder = beam.load_space(tmp_path, SYMBOLS, words=kind == "words").decoder(BeamOptions(nbest=5))
    generator = np.random.default_rng(1)
    many = [generator.normal(0, 3, (int(length), len(SYMBOLS))).astype(np.float32) for length in range(5, 45)]
    torch.zeros(100, 100) @ torch.zeros(100, 100)  # torch's threads are there when the workers start
    alone = decoded(lambda item: decoder.decode(many[item]), len(many), 1)
    together = decoded(lambda item: decoder.decode(many[item]), len(many), 3)
    assert together == alone and len(alone) == len(many)


@needs_fork
def test_workers_share_what_was_loaded(tmp_path: Path) -> None:
    """100 MB made in the parent are read in each worker without becoming its own."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("no /proc/self/smaps_rollup: shared memory NOT measured")
    loaded = np.ones(100_000_000, np.uint8)

    def own_megabytes(item: int) -> float:
        assert int(loaded[item::4096].sum())
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) / 1000

    assert max(decoded(own_megabytes, 4, 2).values()) < 50  # type: ignore[type-var]


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@needs_fork
def test_a_killed_worker_ends_the_work_with_its_reason() -> None:
    def work(item: int) -> int:
        if item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    before = children()
    with pytest.raises(ChildProcessError, match=r"worker \(process \d+\) was ended .* utterance 3: SIGKILL, .*memory"):
        decoded(work, 20, 2)
    assert children() == before


@needs_fork
def test_what_fails_in_a_worker_is_told() -> None:
    def work(item: int) -> int:
        if item == 2:
            raise ValueError("not finite")
        return item

    before = children()
    with pytest.raises(ChildProcessError, match=r"(?s)utterance 2 failed:\n.*ValueError: not finite"):
        decoded(work, 20, 2)
    assert children() == before


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"decoding\.workers is -1, expected 0"):
        pool.num_workers(-1)
    monkeypatch.setattr(pool, "can_fork", lambda: True)
    assert pool.num_workers(3) == 3 and 1 <= pool.num_workers(0) <= (os.cpu_count() or 1)
    monkeypatch.setattr(pool, "can_fork", lambda: False)
    assert pool.num_workers(3) == 1 and "cannot fork: beam search runs in one process" in caplog.text
