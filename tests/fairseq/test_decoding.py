"""Beam search equals fairseq's own decoder; evaluate with a language model counts, and stops when it cannot."""

import importlib.util
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fairseq
import numpy as np
import pytest
import torch
from fairseq.data import Dictionary
from omegaconf import OmegaConf

from mms_recipes import config, manifest, text
from mms_recipes.decoding import beam, pool
from mms_recipes.decoding.beam import BeamOptions
from mms_recipes.evaluation import evaluator
from tests.fairseq import tones
from tests.fairseq.small import dictionary

LANGS = ("eng", "fra")
WORDS = ["abe", "bed", "cab", "dab", "fade", "face", "bad", "ace", "a"]
NBEST = 5


# ---- fairseq's decoder


@pytest.fixture(scope="module")
def flashlight_decoder() -> ModuleType:
    """fairseq:examples/speech_recognition/new/decoders, imported without the package above it, which needs more."""
    folder = Path(fairseq.__file__).parent / "examples" / "speech_recognition" / "new" / "decoders"
    spec = importlib.util.spec_from_file_location(
        "fairseq_decoders", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec and spec.loader
    sys.modules["fairseq_decoders"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fairseq_decoders"])
    return importlib.import_module("fairseq_decoders.flashlight_decoder")


def write_arpa(path: Path, sentences: list[list[str]]) -> None:
    """Write a bigram model of sentences with simple discounting; good enough to be searched with."""
    singles: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    for sentence in sentences:
        for pair in zip(["<s>", *sentence], [*sentence, "</s>"], strict=True):
            pairs[pair] = pairs.get(pair, 0) + 1
            singles[pair[1]] = singles.get(pair[1], 0) + 1
    total = sum(singles.values()) + len(singles)
    before = {word: sum(n for (first, _), n in pairs.items() if first == word) for word in ["<s>", *singles]}
    lines = ["\\data\\", f"ngram 1={len(singles) + 2}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    lines += [f"{np.log10(1 / total):.5f}\t<unk>\t0", "-99\t<s>\t-0.4"]
    lines += [f"{np.log10(n / total):.5f}\t{word}\t-0.35" for word, n in singles.items()]
    lines += ["", "\\2-grams:"]
    lines += [f"{np.log10(0.6 * n / before[first]):.5f}\t{first} {word}" for (first, word), n in pairs.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))


def write_models(folder: Path, lang: str, words: list[str]) -> None:
    """Write words/<lang> and letters/<lang>: bigram models of sentences of these words, and their lexicon."""
    generator = np.random.default_rng(len(lang))
    sentences = [[str(word) for word in generator.choice(words, 4)] for _ in range(30)]
    write_arpa(folder / "words" / lang / "lm.bin", sentences)
    lexicon = "".join(f"{word}\t{text.to_letters(word)}\n" for word in words)
    (folder / "words" / lang / "lexicon.txt").write_text(lexicon)
    write_arpa(folder / "letters" / lang / "lm.bin", [text.to_letters(" ".join(s)).split() for s in sentences])


def spoken(letters: Dictionary, seed: int) -> np.ndarray:
    """Emissions as CTC makes them: peaks with repeats and blanks between, some letters unclear or wrong."""
    generator = np.random.default_rng(seed)
    scores: list[np.ndarray] = []
    for letter in text.to_letters(" ".join(generator.choice(WORDS, 4))).split():
        heard = generator.choice(len(letters) - 4) + 4 if generator.random() < 0.1 else letters.index(letter)
        for unit in [heard] * generator.integers(1, 3) + [letters.bos()] * generator.integers(1, 4):
            frame = generator.normal(0, 1.5, len(letters))
            frame[unit] += generator.uniform(1, 8)
            scores.append(frame)
    return torch.tensor(np.array(scores)).log_softmax(-1).float().numpy()


@pytest.mark.parametrize("kind", ["words", "letters"])
@pytest.mark.parametrize(("beam_size", "beam_size_token", "sil_score"), [(500, 50, 0.0), (40, 6, -0.4)])
def test_hypotheses_and_scores_equal_fairseqs(
    flashlight_decoder: ModuleType, tmp_path: Path, kind: str, beam_size: int, beam_size_token: int, sil_score: float
) -> None:
    letters = dictionary("|abcdef")
    write_models(tmp_path, "eng", WORDS)
    folder = tmp_path / kind / "eng"
    theirs = flashlight_decoder.KenLMDecoder(
        SimpleNamespace(  # the fields of fairseq's FlashlightDecoderConfig
            nbest=NBEST,
            unitlm=kind == "letters",
            lmpath=str(folder / "lm.bin"),
            lexicon=str(folder / "lexicon.txt") if kind == "words" else None,
            beam=beam_size,
            beamsizetoken=beam_size_token,
            beamthreshold=50.0,
            lmweight=1.3,
            wordscore=-0.6,
            unkweight=-np.inf,
            silweight=sil_score,
        ),
        letters,
    )
    options = BeamOptions(beam_size, beam_size_token, lm_weight=1.3, word_score=-0.6, sil_score=sil_score, nbest=NBEST)
    ours = beam.load_space(folder, letters.symbols, words=kind == "words").decoder(options)
    for seed in range(12):
        emissions_TV = spoken(letters, seed)
        (expected,) = theirs.decode(torch.from_numpy(emissions_TV)[None])
        found = ours.decode(emissions_TV)
        assert len(expected) == len(found) == NBEST
        for one, other in zip(found, expected, strict=True):
            assert one.units == other["tokens"].tolist()
            assert (one.words or []) == other["words"]
            assert one.score == other["score"]


# ---- evaluate


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus (data), a dense checkpoint (dense.pt) and adapters that were hardly trained, and language models."""
    folder = tmp_path_factory.mktemp("decoding")
    data = tones.write_corpus(folder / "data", LANGS, train=8, dev=7)
    run = tones.train("smoke_pretrain", data, folder / "runs", "optimization.max_update=1")
    base = run / "checkpoints" / "checkpoint_last.pt"
    short = ("optimization.max_update=2", "dataset.validate_interval_updates=1", "task.update_seconds=3")
    adapted = tones.train("smoke_lsah", data, folder / "runs", *short, f"model.base={base}")
    shutil.move(adapted / "adapters", folder / "adapters")
    for lang in LANGS:
        lines = (data / lang / "train.wrd").read_text().split()
        write_models(folder / "lm", lang, sorted(set(lines)))
    return folder


def evaluate(good: Path, out: Path, data: Path | None = None, word_times: bool = True, **decoding: object) -> Path:
    search = {"search": "word_lm", "lm": str(good / "lm" / "words"), "beam_size": 30, "beam_size_token": 10} | decoding
    node = OmegaConf.structured(config.DecodingConfig if search["search"] == "greedy" else config.BeamConfig)
    if search["search"] == "greedy":
        search = {"search": "greedy"}
    given: dict[str, object] = {"checkpoint": str(good / "adapters"), "data": str(data or good / "data")}
    given |= {"out": str(out), "word_times": word_times}
    cfg = OmegaConf.structured(config.EvaluateConfig)
    cfg.decoding = OmegaConf.merge(node, search)
    return evaluator.evaluate(OmegaConf.merge(cfg, given))  # type: ignore[arg-type]


FILES = ("hypotheses.tsv", "words.tsv", "scores.tsv", "nbest.tsv", "worst_utterances.txt")


@pytest.mark.parametrize("search", ["word_lm", "letter_lm"])
def test_evaluation_with_many_processes_equals_one(good: Path, tmp_path: Path, search: str) -> None:
    models = {"search": search, "lm": str(good / "lm" / ("words" if search == "word_lm" else "letters"))}
    one = evaluate(good, tmp_path / "one", workers=1, nbest=3, **models)
    many = evaluate(good, tmp_path / "many", workers=3, nbest=3, **models)
    for name in FILES:
        assert (one / name).read_bytes() == (many / name).read_bytes(), name
    document = json.loads((many / "scores.json").read_text())
    assert {lang: row["utterances"] for lang, row in document["languages"].items()} == dict.fromkeys(LANGS, 7)
    said = document["settings"]["decoding"]
    assert said["search"] == search and said["unk_score"] == "-inf"
    assert said["weights"]["eng"] == {"lm_weight": 2.0, "word_score": -1.0, "sil_score": 0.0}
    hypotheses = [line.split("\t") for line in (many / "hypotheses.tsv").read_text().splitlines()[1:]]
    best = [line.split("\t") for line in (many / "nbest.tsv").read_text().splitlines()[1:]]
    assert {(uid, lang): text for uid, lang, _, text, *_ in hypotheses} == {
        (uid, lang): text for uid, lang, rank, *_, text in best if rank == "1"
    }


def test_each_language_has_the_model_that_it_has(good: Path, tmp_path: Path) -> None:
    """decoding=lm: words for eng, which has a lexicon, letters for fra."""
    lm = tmp_path / "lm"
    shutil.copytree(good / "lm" / "words" / "eng", lm / "eng")
    shutil.copytree(good / "lm" / "letters" / "fra", lm / "fra")
    both = evaluate(good, tmp_path / "both", search="lm", lm=str(lm), nbest=2)
    rows = (both / "nbest.tsv").read_text().splitlines()[1:]
    for lang, search, kind in (("eng", "word_lm", "words"), ("fra", "letter_lm", "letters")):
        alone = evaluate(good, tmp_path / search, search=search, lm=str(good / "lm" / kind), nbest=2)
        expected = [row for row in (alone / "nbest.tsv").read_text().splitlines() if row.split("\t")[1] == lang]
        assert [row for row in rows if row.split("\t")[1] == lang] == expected != []


def test_greedy_says_and_writes_what_it_did(good: Path, tmp_path: Path) -> None:
    out = evaluate(good, tmp_path / "out", search="word_lm", nbest=2)
    assert (out / "nbest.tsv").is_file()
    out = evaluate(good, tmp_path / "out", search="greedy")
    settings = json.loads((out / "scores.json").read_text())["settings"]
    assert settings["decoding"] == "greedy" and list(settings)[-2:] == ["decoding", "normalization"]
    assert not (out / "nbest.tsv").exists()  # of the search before


def read_table(path: Path) -> list[dict[str, str]]:
    header, *rows = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(header, row, strict=True)) for row in rows]


@pytest.mark.parametrize("search", ["greedy", "word_lm", "letter_lm"])
def test_words_of_every_hypothesis_have_their_times(good: Path, tmp_path: Path, search: str) -> None:
    lm = str(good / "lm" / ("letters" if search == "letter_lm" else "words"))
    out = evaluate(good, tmp_path / "out", search=search, lm=lm)
    words, ends = read_table(out / "words.tsv"), {}
    for lang in LANGS:
        table = manifest.read_manifest(good / "data" / lang / "test.tsv")
        uids = (good / "data" / lang / "test.uid").read_text().split()
        ends |= dict(zip(uids, (table.num_samples / manifest.SAMPLE_RATE).tolist(), strict=True))
    for row in read_table(out / "hypotheses.tsv"):
        mine = [word for word in words if (word["lang"], word["uid"]) == (row["lang"], row["uid"])]
        assert [word["word"] for word in mine] == row["hypothesis"].split()
        times = [float(word[name]) for word in mine for name in ("start", "end")]
        assert times == sorted(times) and all(0 <= time <= ends[row["uid"]] for time in times)
        assert all(float(word["end"]) - float(word["start"]) >= 0.0199 for word in mine)
        assert 0 < float(row["score"]) <= 1 and all(0 < float(word["score"]) <= 1 for word in mine)
    assert len(words) > 10 or search == "greedy"  # the model was hardly trained, a language model makes it speak


@pytest.mark.parametrize("search", ["greedy", "word_lm"])
def test_without_word_times_all_else_is_the_same(good: Path, tmp_path: Path, search: str) -> None:
    timed = evaluate(good, tmp_path / "timed", search=search)
    rows = [line.rpartition("\t")[0] for line in (timed / "hypotheses.tsv").read_text().splitlines()]
    out = evaluate(good, timed, search=search, word_times=False)
    assert (out / "hypotheses.tsv").read_text().splitlines() == rows
    assert not (out / "words.tsv").exists()  # of the evaluation before


def test_tuned_weights_are_used_unless_others_are_given(good: Path, tmp_path: Path) -> None:
    lm = Path(shutil.copytree(good / "lm" / "words", tmp_path / "lm"))
    (lm / "eng" / "decoding.json").write_text('{"lm_weight": 0.7, "word_score": 0.25}')
    out = evaluate(good, tmp_path / "out", lm=str(lm), lm_weight=3.5)
    weights = json.loads((out / "scores.json").read_text())["settings"]["decoding"]["weights"]
    assert weights["eng"] == {"lm_weight": 3.5, "word_score": 0.25, "sil_score": 0.0}
    assert weights["fra"] == {"lm_weight": 3.5, "word_score": -1.0, "sil_score": 0.0}


@pytest.mark.skipif(not pool.can_fork(), reason="this platform cannot fork: a killed worker NOT tested")
def test_no_number_when_a_worker_was_killed(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, taken = beam.BeamDecoder.decode, []

    def killed(self: beam.BeamDecoder, emissions_TV: np.ndarray) -> list[beam.Hypothesis]:
        taken.append(emissions_TV)  # of this worker: the list is not shared
        if len(taken) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, emissions_TV)

    monkeypatch.setattr(beam.BeamDecoder, "decode", killed)
    with pytest.raises(ChildProcessError, match=r"a worker .* was ended in the beam search of eng .*SIGKILL"):
        evaluate(good, tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("decoding", "told"),
    [
        ({"beam_size": 0}, r"decoding\.beam_size is 0, expected at least 1"),
        ({"workers": -2}, r"decoding\.workers is -2, expected 0"),
        (
            {"search": "viterbi"},
            r"decoding\.search is 'viterbi'; choose decoding=greedy, decoding=lm, decoding=word_lm",
        ),
        ({"lm": "???"}, r"evaluate: not given: decoding\.lm; add decoding\.lm=\.\.\. to the command"),
        ({"lm": "nowhere"}, r"nowhere/eng/lm\.bin: no such file; build it with tools/build_lm\.py"),
        ({"search": "letter_lm"}, r"of its .* entries .* are letters of the model .*: a model of words"),
    ],
)
def test_settings_that_cannot_be(good: Path, tmp_path: Path, decoding: dict[str, object], told: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        evaluate(good, tmp_path / "out", **decoding)
    assert not (tmp_path / "out").exists()


def test_a_later_languages_lexicon_stops_before_any_search(good: Path, tmp_path: Path) -> None:
    lm = Path(shutil.copytree(good / "lm" / "words", tmp_path / "lm"))
    with (lm / "fra" / "lexicon.txt").open("a") as file:
        file.write("naïve\tn a ï v e |\n")
    with pytest.raises(ValueError, match=r"fra/lexicon\.txt:\d+: 'naïve\\tn a ï v e |': 'n' is not among"):
        evaluate(good, tmp_path / "out", lm=str(lm))
    assert not (tmp_path / "out").exists()
    assert (evaluate(good, tmp_path / "out", lm=str(lm), drop_oov=True) / "scores.json").is_file()


@pytest.mark.parametrize("search", ["greedy", "word_lm"])
def test_nothing_to_score(good: Path, tmp_path: Path, search: str) -> None:
    data = Path(shutil.copytree(good / "data", tmp_path / "data"))
    fra = data / "fra"
    (fra / "test.wrd").write_text(" \n" * 7)
    with pytest.raises(ValueError, match=r"fra/test\.wrd: all 7 references are empty \(normalised to nothing\?\)"):
        evaluate(good, tmp_path / "out", data, search=search)
    for suffix in ("wrd", "ltr", "uid"):
        (fra / f"test.{suffix}").write_text("")
    (fra / "test.tsv").write_text(f"{fra / 'audio'}\n")
    with pytest.raises(ValueError, match=r"fra/test\.tsv: no utterances; .* or leave fra out with langs"):
        evaluate(good, tmp_path / "out", data, search=search)
    assert not (tmp_path / "out").exists()
