"""Tuning writes weights that evaluate reads, of every utterance, once; a killed worker leaves what was there."""

import json
import logging
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mms_recipes import config, languages
from mms_recipes.decoding import beam, pool
from mms_recipes.evaluation import emissions, evaluator, tuner
from mms_recipes.evaluation.emission_files import CONTENTS
from tests.fairseq import tones
from tests.fairseq.test_decoding import LANGS, write_models
from tools import merge_tuning

DEV = 5
QUICK = ("step=2.5", "finest=1.25", "decoding.beam_size=20", "decoding.beam_size_token=10", "decoding.workers=2")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus (data), adapters that were hardly trained, and models (lm): words for eng, letters for fra."""
    folder = tmp_path_factory.mktemp("tuning")
    data = tones.write_corpus(folder / "data", LANGS, train=8, dev=DEV)
    run = tones.train("smoke_pretrain", data, folder / "runs", "optimization.max_update=1")
    short = ("optimization.max_update=2", "dataset.validate_interval_updates=1", "task.update_seconds=3")
    base = f"model.base={run / 'checkpoints' / 'checkpoint_last.pt'}"
    shutil.move(tones.train("smoke_lsah", data, folder / "runs", *short, base) / "adapters", folder / "adapters")
    for lang, kind in zip(LANGS, ("words", "letters"), strict=True):
        write_models(folder / "all", lang, sorted(set((data / lang / "train.wrd").read_text().split())))
        shutil.copytree(folder / "all" / kind / lang, folder / "lm" / lang)
    return folder


@pytest.fixture
def lm(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained / "lm", tmp_path / "lm"))


def composed(root: str, trained: Path, lm: Path, *overrides: str) -> DictConfig:
    given = [f"checkpoint={trained / 'adapters'}", f"data={trained / 'data'}", f"decoding.lm={lm}"]
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose(root, overrides=[*given, f"out={lm.parent / root}", *overrides])


def test_tuned_weights_are_what_evaluate_uses(trained: Path, lm: Path) -> None:
    found = tuner.tune(composed("tune", trained, lm, *QUICK))
    for lang, second in zip(LANGS, ("word_score", "sil_score"), strict=True):
        document = json.loads((lm / lang / "decoding.json").read_text())
        assert document == found[lang] and document["utterances"] == DEV
        header, *lines = (
            line.split("\t") for line in (lm.parent / "tune" / lang / tuner.POINTS).read_text().splitlines()
        )
        assert header[:2] == ["lm_weight", second] and len(lines) == document["points"] >= 9
        assert {line[-1] for line in lines} == {str(DEV)}  # every utterance at every point
        errors = [int(line[header.index("word_errors")]) for line in lines]
        rates = [float(line[header.index("wer")]) for line in lines]
        assert document["tuned"]["wer"] == min(rates) and rates[errors.index(min(errors))] == min(rates)
        assert document["default"]["wer"] == rates[0]
    # the same numbers come out of evaluate with the same beam, greedy and tuned
    beams = ("decoding=lm", "split=dev", "decoding.beam_size=20", "decoding.beam_size_token=10")
    rows = json.loads((evaluator.evaluate(composed("evaluate", trained, lm, *beams)) / "scores.json").read_text())
    for lang in LANGS:
        assert [round(rows["languages"][lang][m], 4) for m in ("wer", "cer")] == list(found[lang]["tuned"].values())
        weights = rows["settings"]["decoding"]["weights"][lang]
        assert weights == {name: found[lang][name] for name in ("lm_weight", "word_score", "sil_score")}
    table = tuner.table(found).splitlines()
    assert [line.split()[0] for line in (table[2], table[3], table[-1])] == [*LANGS, "macro"]


def test_a_finished_language_is_not_tuned_again(
    trained: Path, lm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="mms_recipes")
    first = tuner.tune(composed("tune", trained, lm, *QUICK, "langs=[eng]"))
    monkeypatch.setattr(emissions, "blocks", None)  # eng is not listened to again
    assert tuner.tune(composed("tune", trained, lm, *QUICK, "langs=[eng]")) == first
    again = tuner.tune(composed("tune", trained, lm, *QUICK, "langs=[eng]", "lm_weight_range=[1,2]"))["eng"]
    assert again["inputs"] != first["eng"]["inputs"] and again["points"] < first["eng"]["points"]
    assert f"eng: emissions of {DEV} utterances from" in caplog.text
    (lm.parent / "tune" / "eng" / CONTENTS).write_text('{"source": "of another model", "num_frames": [], "units": 1}')
    (lm / "eng" / "decoding.json").unlink()
    with pytest.raises(TypeError):  # now it must listen
        tuner.tune(composed("tune", trained, lm, *QUICK, "langs=[eng]"))


def test_shards_take_each_language_once(
    trained: Path, lm: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard may come from the environment, as each process of torchrun or srun has it."""
    out = lm.parent / "tune"
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = {}
    for shard in (1, 0):
        monkeypatch.setenv("RANK", str(shard))
        shards = ("num_shards=${oc.env:WORLD_SIZE}", "shard=${oc.env:RANK}")
        found[shard] = tuner.tune(composed("tune", trained, lm, *QUICK, *shards))
        assert list(found[shard]) == languages.shard(sorted(LANGS), 2, shard)
        if shard == 1:
            assert merge_tuning.main([str(out)]) == 1
            assert "1 of 2 shards missing: 0; run the same command with shard=... of each" in capsys.readouterr().err
    assert merge_tuning.main([str(out)]) == 0
    assert capsys.readouterr().out == tuner.table(found[0] | found[1]) + "\n"
    path = out / "shards/0.json"
    document = json.loads(path.read_text())
    document["found"]["eng"]["utterances"] -= 1
    document["found"] |= {"fra": found[1]["fra"]}
    path.write_text(json.dumps(document))
    assert merge_tuning.main([str(out)]) == 1
    told = "shards: tuned eng on 4 utterances, expected 5, fra on 10 utterances, expected 5; run the shards of these"
    assert told in capsys.readouterr().err


@pytest.mark.skipif(not pool.can_fork(), reason="this platform cannot fork: a killed worker NOT tested")
def test_a_killed_worker_leaves_what_was_there(trained: Path, lm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, taken = beam.BeamDecoder.decode, []

    def killed(self: beam.BeamDecoder, emissions_TV: np.ndarray) -> list[beam.Hypothesis]:
        taken.append(emissions_TV)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, emissions_TV)

    (lm / "eng" / "decoding.json").write_text('{"lm_weight": 0.5}')
    monkeypatch.setattr(beam.BeamDecoder, "decode", killed)
    with pytest.raises(ChildProcessError, match=r"a worker .* was ended in the beam search of eng .* at \(.*SIGKILL"):
        tuner.tune(composed("tune", trained, lm, *QUICK))
    assert (lm / "eng" / "decoding.json").read_text() == '{"lm_weight": 0.5}'
    assert not (lm / "fra" / "decoding.json").exists()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["decoding=greedy", "~decoding.lm"], "decoding.search is 'greedy', which has no weights; give decoding=lm"),
        (["decoding.lm_weight=2"], r"decoding\.lm_weight given, but that is looked for; leave it out, or narrow"),
        (["lm_weight_range=[1]"], r"lm_weight_range is \[1\.0\], expected the lowest and the highest value"),
        (["num_shards=3"], "3 shards for 2 languages"),
        (["decoding.lm=nowhere"], r"nowhere/eng/lm\.bin: no such file"),
    ],
)
def test_settings_that_cannot_be(trained: Path, lm: Path, overrides: list[str], told: str) -> None:
    if "decoding=greedy" in overrides:
        cfg = composed("tune", trained, lm)
        cfg.decoding.search = "greedy"
    else:
        cfg = composed("tune", trained, lm, *overrides)
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        tuner.tune(cfg)
    assert not (lm.parent / "tune").exists()
