"""The chain of the demo on tones: pretrain, dense, LSAH, evaluate. It must learn."""

import json
from pathlib import Path

import merge_adapters
import pytest
import torch
from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints, config, evaluator
from tests.fairseq import tones

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    data = tones.write_corpus(folder / "data")
    for experiment in ("smoke_pretrain", "smoke_ctc", "smoke_lsah"):
        tones.train(experiment, data, folder / "runs")
    return folder


def evaluate(chain: Path, checkpoint: Path, name: str) -> dict:
    settings = {"checkpoint": str(checkpoint), "data": str(chain / "data"), "out": str(chain / name)}
    cfg = OmegaConf.merge(OmegaConf.structured(config.EvaluateConfig), settings)
    return json.loads((evaluator.evaluate(cfg) / "scores.json").read_text())


def test_chain_learns(chain: Path) -> None:
    dense = evaluate(chain, chain / "runs/smoke_ctc/checkpoints/checkpoint_best.pt", "dense")
    lsah = evaluate(chain, chain / "runs/smoke_lsah/adapters", "lsah")
    assert dense["macro"]["cer"] < 30
    assert lsah["macro"]["cer"] < 30  # from heads that knew nothing


def test_one_file_checkpoint_scores_as_its_adapters(chain: Path) -> None:
    assert merge_adapters.main([str(chain / "runs/smoke_lsah/adapters"), str(chain / "lsah.pt")]) == 0
    from_folder = evaluate(chain, chain / "runs/smoke_lsah/adapters", "folder")
    from_file = evaluate(chain, chain / "lsah.pt", "file")
    assert from_file["languages"] == from_folder["languages"]


def test_run_folder_says_what_the_run_was(chain: Path) -> None:
    run = json.loads((chain / "runs/smoke_lsah/run.json").read_text())
    assert len(run["manifests"]) == 4 * 2 * 2 + 5 and run["versions"]["torch"]
    resolved = OmegaConf.load(chain / "runs/smoke_lsah/config.yaml")
    assert resolved.task.data == str(chain / "data")


def test_base_is_the_same_after_lsah(chain: Path) -> None:
    base = checkpoints.read_base(chain / "runs/smoke_ctc/checkpoints/checkpoint_last.pt")
    adapters = adapter_files.read_adapters(chain / "runs/smoke_lsah/adapters")
    assert sorted(adapters) == sorted(tones.LETTERS)
    assert {adapter.base_hash for adapter in adapters.values()} == {base.hash}


def test_finished_run_does_nothing(chain: Path) -> None:
    checkpoint = chain / "runs/smoke_lsah/checkpoints/checkpoint_last.pt"
    before = checkpoint.stat().st_mtime_ns
    tones.train("smoke_lsah", chain / "data", chain / "runs")
    assert checkpoint.stat().st_mtime_ns == before


def test_dense_training_starts_from_a_dense_checkpoint_without_its_head(chain: Path) -> None:
    dense = chain / "runs/smoke_ctc/checkpoints/checkpoint_last.pt"
    french = tones.write_corpus(chain / "french", langs=["fra"])  # fewer letters than the base has
    settings = (f"model.w2v_path={dense}", "name=again", "optimization.max_update=4", "optimization.lr=[1e-9]")
    run = tones.train("smoke_ctc", french, chain / "runs", *settings, "dataset.disable_validation=true")
    before, after = checkpoints.read_base(dense), checkpoints.read_base(run / "checkpoints/checkpoint_last.pt")
    assert after.head is not None and before.head is not None and len(after.head[1]) < len(before.head[1])
    for name, tensor in before.encoder_state.items():
        torch.testing.assert_close(after.encoder_state[name], tensor, atol=1e-6, rtol=0)
