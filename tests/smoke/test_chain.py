"""The chain of the demo on tones: pretrain, dense, LSAH, evaluate. It must learn."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import merge_adapters
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints, config, manifest, metrics, transcriber
from mms_recipes.evaluation import evaluator
from mms_recipes.transcription import listener
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


def test_transcribing_files_is_evaluating_them(chain: Path, tmp_path: Path) -> None:
    adapters, out = chain / "runs/smoke_lsah/adapters", chain / "transcribed"
    evaluate(chain, adapters, out.name)
    with (out / "hypotheses.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["lang"] == "fra"]
    expected = {row["uid"]: row["hypothesis"] for row in rows}
    audio, stereo, broken = chain / "data/fra/audio", tmp_path / "stereo.flac", tmp_path / "broken.wav"
    samples, rate = soundfile.read(audio / "test_0.wav")
    soundfile.write(stereo, np.stack([samples, samples], 1), rate)
    broken.write_bytes(b"no audio")
    soundfile.write(tmp_path / "short.wav", samples[:300], rate)
    files = [stereo, broken, tmp_path / "short.wav", *(audio / f"test_{number}.wav" for number in range(6))]
    command = [sys.executable, "-m", "mms_recipes.transcribe", *map(str, files), "--checkpoint", str(adapters)]
    found = subprocess.run([*command, "--lang", "fra"], capture_output=True, text=True, check=False)
    heard = dict(line.split("\t") for line in found.stdout.splitlines())
    assert found.returncode == 1 and list(heard) == [str(files[0]), *map(str, files[3:])]  # in the order given
    assert heard[str(stereo)] == expected["fra_test_0"]
    assert [heard[str(audio / f"test_{n}.wav")] for n in range(6)] == [expected[f"fra_test_{n}"] for n in range(6)]
    assert "2 of 9 files could not be used" in found.stderr and "broken.wav: not readable as audio" in found.stderr
    assert "short.wav: 0.019 s, shorter than what the model looks at" in found.stderr
    unknown = subprocess.run([*command, "--lang", "deu"], capture_output=True, text=True, check=False)
    assert unknown.returncode == 1 and "no adapter for deu" in unknown.stderr
    misspelt = subprocess.run([*command, "--lang", "frx"], capture_output=True, text=True, check=False)
    assert misspelt.returncode == 1 and "unknown language or set 'frx'" in misspelt.stderr


def test_long_audio_reads_as_the_whole_and_in_windows_almost(chain: Path, tmp_path: Path) -> None:
    table = manifest.read_manifest(chain / "data/fra/train.tsv")
    parts = [soundfile.read(table.path(row), dtype="float32")[0] for row in range(len(table))]
    long = tmp_path / "long.flac"
    soundfile.write(long, np.concatenate(parts * 4), 16_000)
    model = transcriber.Transcriber(chain / "runs/smoke_lsah/adapters")
    (whole,) = model.transcribe([long], "fra")
    source = torch.from_numpy(soundfile.read(long, dtype="float32")[0])
    normal = torch.nn.functional.layer_norm(source, source.shape) if model.recognizer.normalize else source
    at_once = model.recognizer.transcribe(normal[None], torch.tensor([len(normal)]), ["fra"])
    assert whole.seconds > 120 and len(whole.text) > 500 and at_once == [whole.text]
    model.limits = listener.Limits(whole=0, window=20)
    (cut,) = model.transcribe([long], "fra")
    changed = metrics.character_errors(whole.text, cut.text, count_space=True)  # a window is not the whole to attention
    assert changed.substitutions + changed.deletions + changed.insertions < 0.01 * changed.reference_length


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
    settings = (f"model.base={dense}", "name=again", "optimization.max_update=4", "optimization.lr=[1e-9]")
    run = tones.train("smoke_ctc", french, chain / "runs", *settings, "dataset.disable_validation=true")
    before, after = checkpoints.read_base(dense), checkpoints.read_base(run / "checkpoints/checkpoint_last.pt")
    assert after.head is not None and before.head is not None and len(after.head[1]) < len(before.head[1])
    for name, tensor in before.encoder_state.items():
        torch.testing.assert_close(after.encoder_state[name], tensor, atol=1e-6, rtol=0)
