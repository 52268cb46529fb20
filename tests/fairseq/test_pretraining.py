"""Pretraining: which corpora and languages it draws from and how much of each, its batches, its bad inputs."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import DictConfig, OmegaConf

from mms_recipes import checkpoints, continuation, devices, preflight
from mms_recipes.tasks import pretraining
from tests.fairseq import tones
from tests.fairseq.small import Pretrained


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two corpora: radio holds eng and fra, theatre eng and rus, four times as much of it."""
    folder = tmp_path_factory.mktemp("corpora")
    tones.write_corpus(folder / "radio", ["eng", "fra"], train=10, dev=2)
    tones.write_corpus(folder / "theatre", ["eng", "rus"], train=40, dev=2)
    return folder


def composed(data: Path, *overrides: str) -> DictConfig:
    return tones.composed("smoke_pretrain", f"task.data={data}", *overrides)


def hours(dataset: pretraining.MixtureDataset, epoch: int = 1) -> dict[str, float]:
    """Hours that an epoch draws of each language of each corpus."""
    drawn: dict[str, float] = dict.fromkeys(dataset.langs, 0.0)
    for index in dataset.epoch_indices(epoch):
        drawn[dataset.langs[dataset.locate(int(index))[0]]] += dataset.size(int(index)) / 16_000 / 3_600
    return drawn


def test_a_folder_of_languages_is_one_corpus(corpora: Path) -> None:
    cfg = composed(corpora / "radio").task
    assert pretraining.find_corpora(cfg) == {"radio": corpora / "radio"}
    assert preflight.language_folders(cfg) == ["eng", "fra"]


def test_a_folder_of_corpora(corpora: Path) -> None:
    cfg = composed(corpora).task
    assert list(pretraining.find_corpora(cfg)) == ["radio", "theatre"]
    assert preflight.language_folders(cfg) == ["radio/eng", "radio/fra", "theatre/eng", "theatre/rus"]
    assert pretraining.corpus_languages(composed(corpora, "task.langs=[eng]").task) == {
        "radio": ["eng"],
        "theatre": ["eng"],
    }
    assert pretraining.corpus_languages(composed(corpora, "task.langs=[rus]").task) == {"theatre": ["rus"]}
    assert list(pretraining.find_corpora(composed(corpora, "task.corpora=[theatre]").task)) == ["theatre"]


def test_the_same_language_of_two_corpora_is_drawn_apart(corpora: Path) -> None:
    """Languages within corpora, then corpora: theatre has 4 times the hours, so at beta 1/2 twice the share."""
    dataset = pretraining.read_mixture(composed(corpora).task, "train")
    assert dataset.langs == ["radio/eng", "radio/fra", "theatre/eng", "theatre/rus"]
    assert len({corpus.key for corpus in dataset.corpora}) == 4
    found = hours(dataset)
    radio, theatre = (sum(h for name, h in found.items() if name.startswith(c)) for c in ("radio", "theatre"))
    assert theatre / radio == pytest.approx(2.0, rel=0.1)
    assert found["radio/eng"] == pytest.approx(found["radio/fra"], rel=0.15)
    alike = hours(pretraining.read_mixture(composed(corpora, "task.beta_corpus=0.0").task, "train"))
    assert alike["radio/eng"] + alike["radio/fra"] == pytest.approx(sum(alike.values()) / 2, rel=0.1)
    thrice = hours(pretraining.read_mixture(composed(corpora, "+task.corpus_weights.radio=6.0").task, "train"))
    assert thrice["radio/eng"] + thrice["radio/fra"] == pytest.approx(sum(thrice.values()) * 0.75, rel=0.1)


def test_dev_holds_every_utterance_once_and_may_be_missing(corpora: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(corpora, tmp_path / "corpora"))
    dataset = pretraining.read_mixture(composed(folder).task, "dev")
    assert sorted(np.concatenate(dataset.batches(1, 320_000)).tolist()) == list(range(8))
    (folder / "radio" / "eng" / "dev.tsv").unlink()
    assert len(pretraining.read_mixture(composed(folder).task, "dev")) == 6
    preflight.check_manifests(composed(folder))
    for tsv in folder.glob("*/*/dev.tsv"):
        tsv.unlink()
    with pytest.raises(ValueError, match=r"no language has a dev.tsv; make one, or set dataset.disable_validation"):
        pretraining.read_mixture(composed(folder).task, "dev")


def test_short_utterances_are_left_out_and_counted(corpora: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = pretraining.read_mixture(composed(corpora).task, "train")
    limit = float(np.median(whole.num_samples)) / 16_000
    with caplog.at_level(logging.WARNING):
        part = pretraining.read_mixture(composed(corpora, f"task.min_seconds={limit}").task, "train")
    long_enough = np.flatnonzero(whole.num_samples >= int(limit * 16_000))
    assert f"{100 - len(long_enough)} of 100 utterances are shorter than task.min_seconds" in caplog.text
    drawn = np.concatenate([part.epoch_indices(epoch) for epoch in range(1, 6)])
    assert set(drawn.tolist()) == set(long_enough.tolist())


def test_a_dev_split_that_is_too_short_is_left_out(corpora: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = pretraining.read_mixture(composed(corpora).task, "dev")
    longest = [max(corpus.utterances.num_samples) / 16_000 for corpus in whole.corpora]
    limit = min(longest) + 1e-3
    part = pretraining.read_mixture(composed(corpora, f"task.min_seconds={limit}").task, "dev")
    assert (
        len(part.corpora) == sum(length >= limit for length in longest) < 4
        and "dev: nothing of" in caplog.text
        and "not validated" in caplog.text
    )


# ---- bad input


def test_languages_beside_corpora(corpora: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(corpora, tmp_path / "corpora"))
    (folder / ".cache").mkdir()
    assert len(preflight.language_folders(composed(folder).task)) == 4
    shutil.copytree(corpora / "radio" / "eng", folder / "eng")
    with pytest.raises(ValueError, match=r"holds languages \(eng\) beside corpora of languages \(radio, theatre\)"):
        preflight.language_folders(composed(folder).task)


def test_corpus_without_manifests(corpora: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(corpora, tmp_path / "corpora"))
    (folder / "raw_mp3" / "eng").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"raw_mp3 hold\(s\) no <lang>/train.tsv; prepare it .*task.corpora="):
        preflight.language_folders(composed(folder).task)
    assert len(preflight.language_folders(composed(folder, "task.corpora=[radio]").task)) == 2
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder; give the folder of <corpus>/<lang>"):
        preflight.language_folders(composed(tmp_path / "nowhere").task)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no <lang>/train.tsv and no <corpus>/<lang>/train.tsv"):
        preflight.language_folders(composed(tmp_path / "empty").task)


@pytest.mark.parametrize("setting", ["+task.corpus_weights.raido=2", "task.corpora=[raido]"])
def test_a_corpus_that_is_not_there(corpora: Path, setting: str) -> None:
    with pytest.raises(ValueError, match=r"task.corp\w+: raido: no such corpus in .*; there are: radio, theatre"):
        preflight.language_folders(composed(corpora, setting).task)


def test_weights_are_positive(corpora: Path) -> None:
    with pytest.raises(ValueError, match=r"task.corpus_weights: expected positive numbers, found .*'radio': 0.0"):
        preflight.language_folders(composed(corpora, "+task.corpus_weights.radio=0").task)


def test_a_language_that_no_corpus_has(corpora: Path) -> None:
    with pytest.raises(ValueError, match=r"task.langs: jpn: no manifest in any of radio, theatre"):
        preflight.language_folders(composed(corpora, "task.langs=[eng,jpn]").task)


def test_all_of_one_language_too_short(corpora: Path) -> None:
    with pytest.raises(ValueError, match=r"radio/eng, .*: no utterance has 5 s; leave the language out .*min_seconds"):
        pretraining.read_mixture(composed(corpora, "task.min_seconds=5").task, "train")


def test_crop_longer_than_the_batch(corpora: Path) -> None:
    for key in ("max_tokens", "max_tokens_valid"):
        with pytest.raises(ValueError, match=rf"max_seconds=8: a crop is longer than a batch, dataset.{key}=64000"):
            preflight.check_batch(composed(corpora, f"dataset.{key}=64000"))
    with pytest.raises(ValueError, match=r"task.min_seconds=9: expected more than 0, at most max_seconds=8"):
        preflight.check_batch(composed(corpora, "task.min_seconds=9"))


def test_going_on_from_a_checkpoint_of_another_model(tmp_path: Path, corpora: Path, pretrained: Pretrained) -> None:
    cfg = composed(corpora, f"checkpoint.finetune_from_model={pretrained.path}")
    with pytest.raises(ValueError, match=r"tensors are not those of the model \(.*expected .*\).* Choose the model"):
        continuation.check(cfg, tmp_path, tmp_path / "checkpoint_last.pt")


def test_shares_of_weights_are_not_for_fp16(corpora: Path) -> None:
    cfg = composed(corpora, "common.fp16=true", "common.cpu=true", "distributed_training.ddp_backend=fully_sharded")
    with pytest.raises(ValueError, match=r"fully_sharded computes in bfloat16 or float32, not in fp16"):
        preflight.check_device(cfg)


# ---- the batch of an update


@pytest.mark.parametrize(("gpus", "expected"), [(48, 1), (16, 3), (1, 48)])
def test_update_freq_keeps_the_hours_of_an_update(
    corpora: Path, gpus: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = tones.composed("pretrain_300m", f"task.data={corpora}")
    cfg.distributed_training.distributed_world_size = gpus
    cfg.distributed_training.distributed_init_method = "tcp://localhost:1"
    with caplog.at_level(logging.INFO):
        devices.settle_batch(cfg)
    assert cfg.optimization.update_freq == [expected]
    assert f"batch of one update: 2.3 h ({gpus} device(s) x 172.5 s x {expected})" in caplog.text
    assert "the recipe's: 2.3 h" in caplog.text


def test_a_batch_that_cannot_be_kept_is_told(corpora: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = tones.composed("pretrain_300m", f"task.data={corpora}")
    cfg.distributed_training.distributed_world_size = 30
    cfg.distributed_training.distributed_init_method = "tcp://localhost:1"
    devices.settle_batch(cfg)
    assert "2.88 h (30 device(s) x 172.5 s x 2); the recipe's is 2.3 h, which dataset.max_tokens=2208000" in caplog.text


def test_two_rules_for_the_batch(corpora: Path) -> None:
    cfg = tones.composed("pretrain_300m", f"task.data={corpora}", "optimization.update_freq=[2]")
    with pytest.raises(ValueError, match=r"update_freq=\[2\] and task.hours_per_update=2.3 are both given"):
        devices.settle_batch(cfg)


def test_one_device_per_process_is_one_of_many(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each process sees one device fairseq takes it for the whole world: 64 models in one folder.

    The same of Slurm is in tests/cluster, on a real one.
    """
    for name, value in {"WORLD_SIZE": "64", "RANK": "5", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    cfg = tones.composed("pretrain_300m", f"task.data={corpora}")
    levels = {name: logging.getLogger(name).level for name in ("", "fairseq.logging.progress_bar")}
    try:
        devices.settle_world(cfg)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert cfg.distributed_training.distributed_world_size == 64
    assert cfg.distributed_training.distributed_rank == 5 and not devices.is_first(cfg)


def test_lsah_has_no_common_batch() -> None:
    cfg = tones.composed("smoke_lsah", "task.hours_per_update=0.5")
    with pytest.raises(ValueError, match=r"LSAH has task.update_seconds for each language"):
        devices.settle_batch(cfg)


# ---- runs


def run(data: Path, runs: Path, *overrides: str) -> dict[str, torch.Tensor]:
    folder = tones.train("smoke_pretrain", data, runs, "dataset.disable_validation=true", *overrides)
    weights: dict[str, torch.Tensor] = checkpoints.load_checkpoint(folder / "checkpoints/checkpoint_last.pt")["model"]
    return weights


@pytest.mark.slow
def test_the_same_seed_trains_the_same_model(corpora: Path, tmp_path: Path) -> None:
    """Masks, negatives, code noise, crops and data order follow the seed, whatever the number of data workers."""
    short = ("optimization.max_update=4", "model.encoder_layerdrop=0.2", "model.dropout=0.1")
    first = run(corpora, tmp_path / "first", *short)
    again = run(corpora, tmp_path / "again", *short, "dataset.num_workers=2")
    other = run(corpora, tmp_path / "other", *short, "common.seed=2")
    for name, tensor in first.items():
        torch.testing.assert_close(again[name], tensor, atol=0, rtol=0)
    assert any(not torch.equal(other[name], tensor) for name, tensor in first.items())


@pytest.mark.slow
def test_going_on_from_a_checkpoint(corpora: Path, tmp_path: Path) -> None:
    first = run(corpora, tmp_path / "first", "optimization.max_update=3")
    path = tmp_path / "first/smoke_pretrain/checkpoints/checkpoint_last.pt"
    settings = (f"checkpoint.finetune_from_model={path}", "optimization.max_update=1", "optimization.lr=[1e-9]")
    after = run(corpora, tmp_path / "second", *settings, "task.hours_per_update=0.0111")
    recorded = OmegaConf.load(tmp_path / "second/smoke_pretrain/config.yaml")
    assert recorded.optimization.update_freq == [2]  # what was derived, not what was asked
    for name, tensor in first.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=0)


@pytest.mark.slow
def test_a_collapse_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Silence leaves one code per group; a run on tones of the same length raises no alarm."""
    data = tones.write_corpus(tmp_path / "tones", ["eng"], train=8, dev=2)
    silent = Path(shutil.copytree(data, tmp_path / "silence"))
    for path in silent.rglob("*.wav"):
        soundfile.write(path, np.zeros(soundfile.info(path).frames), 16_000, subtype="PCM_16")
    for tsv in silent.rglob("*.tsv"):
        tsv.write_text(tsv.read_text().replace(str(data), str(silent)))
    with caplog.at_level(logging.WARNING):
        run(data, tmp_path / "runs", "optimization.max_update=12", "name=tones")
        assert "code collapse" not in caplog.text
        run(silent, tmp_path / "runs", "optimization.max_update=12", "name=silence")
    assert "code collapse: code_perplexity 2.0 of 32" in caplog.text
    assert "Likely cause: silent or constant audio" in caplog.text
