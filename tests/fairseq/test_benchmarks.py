"""A model scored by the rules of a benchmark, on speech laid out as FLEURS is."""

import json
from pathlib import Path

import prepare_fleurs
import pytest
from hydra import compose, initialize_config_dir

from mms_recipes import config
from mms_recipes.evaluation import benchmarks, evaluator
from mms_recipes.report.scores import comparison_table
from tests.fairseq import tones

SPEECH = Path(__file__).parents[2].parent / "shared" / "speech"
LANGS = ("eng", "fra", "ita")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifests with the references of the corpus as they are."""
    if not SPEECH.is_dir():
        pytest.skip("no ../shared/speech: benchmarks were NOT tested on speech in FLEURS's layout")
    out = tmp_path_factory.mktemp("manifests") / "fleurs"
    assert prepare_fleurs.main([str(SPEECH), str(out), "--normalization", "none", "--splits", "test"]) == 0
    return out


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model of tones that was hardly trained."""
    folder = tmp_path_factory.mktemp("model")
    corpus = tones.write_corpus(folder / "data", ("eng", "fra"), train=8, dev=4)
    run = tones.train("smoke_pretrain", corpus, folder / "runs", "optimization.max_update=1")
    base = run / "checkpoints" / "checkpoint_last.pt"
    run = tones.train("smoke_ctc", corpus, folder / "runs", f"model.base={base}", "optimization.max_update=30")
    return run / "checkpoints" / "checkpoint_last.pt"


def evaluate(*overrides: str) -> Path:
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return evaluator.evaluate(compose("evaluate", overrides=list(overrides)))


def test_protocols_on_the_same_speech(data: Path, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("whisper_normalizer", reason="the extra [benchmark] is not installed: this test did NOT run")
    given = (f"checkpoint={checkpoint}", f"data={data}", "word_times=false")
    documents = {}
    for protocol, langs in (("fleurs102", LANGS), ("fleurs54", LANGS[:2])):
        out = tmp_path / protocol
        narrowed = (f"protocol={protocol}", f"langs=[{','.join(langs)}]")
        evaluate("+benchmark=fleurs_asr", *given, *narrowed, f"out={out}")
        documents[protocol] = json.loads((out / "scores.json").read_text())
        rows = documents[protocol]["languages"]
        assert tuple(rows) == langs
        beside = documents[protocol]["benchmark"]
        assert beside["scored"] == len(langs)
        assert beside["differs"] == [f"{len(langs)} of its {beside['languages']} languages were scored"]
        for lang in langs:  # every reference of the corpus, as it is
            scored = [line.split("\t") for line in (out / "hypotheses.tsv").read_text().splitlines()]
            references = {uid: reference for uid, of, reference, *_ in scored if of == lang}
            uids, words = ((data / lang / f"test.{name}").read_text().splitlines() for name in ("uid", "wrd"))
            rules = benchmarks.text_rules(benchmarks.PROTOCOLS[protocol], lang)
            assert references == {uid: rules(text) for uid, text in zip(uids, words, strict=True)}
    whole, some = documents["fleurs102"], documents["fleurs54"]
    assert whole["settings"]["normalization"] == "none" and whole["settings"]["protocol"] == "fleurs102"
    assert whole["macro"]["headline"] == whole["macro"]["cer"]
    assert some["macro"]["headline"] == some["macro"]["wer"]
    assert some["languages"]["fra"]["reference_words"] > whole["languages"]["fra"]["reference_words"]  # l'été: l été
    table = comparison_table({"tones": tmp_path / "fleurs102" / "scores.json"})
    assert "macro of 3/102" in table and "paper: MMS FL-102 + LM" in table


def test_missing_languages_stop_it_before_a_model_is_loaded(data: Path, tmp_path: Path) -> None:
    given = ("checkpoint=none.pt", f"data={data}", f"out={tmp_path / 'out'}")
    with pytest.raises(ValueError, match=r"FLEURS-102: .* of 99 of the 102 languages to score: afr, amh, .*zul; "):
        evaluate("+benchmark=fleurs_asr", *given)
    with pytest.raises(ValueError, match="FLEURS-54 does not have ita"):
        evaluate("+benchmark=fleurs_asr", "protocol=fleurs54", "langs=[ita]", *given)
    with pytest.raises(ValueError, match="protocol is 'fleurs99'; choose fleurs102, fleurs61, fleurs54"):
        evaluate("+benchmark=fleurs_asr", "protocol=fleurs99", *given)
    assert not (tmp_path / "out").exists()
