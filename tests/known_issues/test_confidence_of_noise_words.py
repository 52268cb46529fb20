"""Noise was written down as words with a confidence of 0.83: what is no probability is not called one any more."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import load_file

from mms_recipes import adapter_files
from mms_recipes.transcriber import Transcriber
from tests.known_issues import commands
from tests.known_issues.lab import Lab


@pytest.fixture(scope="module")
def calibrated(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters with a calibration beside them, and `scores` of the evaluation that fitted it."""
    folder = tmp_path_factory.mktemp("calibrated")
    adapters = shutil.copytree(tiny.adapters, folder / "adapters")
    options = (f"checkpoint={adapters}", f"base={tiny.dense}", f"data={tiny.data}", f"out={folder / 'scores'}")
    ended = commands.run("evaluate", *options, "calibrate=dev")
    assert ended.code == 0, ended.output
    assert str(adapters / "confidence.json") in ended.output
    return adapters


def lines(adapters: Path, base: Path, *files: Path) -> tuple[list[dict], str]:
    options = ("--checkpoint", adapters, "--base", base, "--lang", "eng", "--format", "jsonl", "--quiet")
    ended = commands.run("transcribe", *files, *options)
    assert ended.code == 0, ended.output
    found = [json.loads(line) for line in ended.output.splitlines() if line.startswith("{")]
    assert len(found) == len(files)
    return found, ended.output


def test_without_a_calibration_there_is_a_score(tiny: Lab) -> None:
    ((line,), _) = lines(tiny.adapters, tiny.dense, tiny.wav)
    assert "confidence" not in line and 0 <= line["score"] <= 1
    assert all("confidence" not in word and 0 <= word["score"] <= 1 for word in line["words"])
    (transcript,) = Transcriber(tiny.adapters).transcribe([tiny.wav], "eng")
    assert transcript.confidence is None and transcript.score == pytest.approx(line["score"], abs=1e-3)


def test_with_one_there_is_a_confidence(tiny: Lab, calibrated: Path) -> None:
    ((line,), _) = lines(calibrated, tiny.dense, tiny.wav)
    assert "score" not in line and 0 <= line["confidence"] <= 1
    assert all("score" not in word and 0 <= word["confidence"] <= 1 for word in line["words"])


def test_evaluations_say_how_good_it_is(calibrated: Path) -> None:
    scores = json.loads((calibrated.parent / "scores/scores.json").read_text())["confidence"]
    assert scores["utterances"] == sum(one["utterances"] for one in scores["bins"]) == 9
    header, *rows = (calibrated.parent / "scores/hypotheses.tsv").read_text().splitlines()
    assert header.split("\t")[-2:] == ["score", "confidence"]
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row.split("\t")[-2:])
    page = commands.run("report", calibrated.parent / "scores")
    assert page.code == 0, page.output
    text = (calibrated.parent / "scores/report.html").read_text()
    assert "Expected calibration error" in text and "id='confidence'" in text


def test_another_model_in_its_place_has_scores_again(tiny: Lab, calibrated: Path, tmp_path: Path) -> None:
    """An adapter that is trained again keeps its name; the calibration of the one before does not hold for it."""
    adapters = shutil.copytree(calibrated, tmp_path / "adapters")
    adapter = adapter_files.read_adapter(adapters / "eng.safetensors")
    tensors = load_file(adapters / "eng.safetensors")
    tensors["w2v_encoder.proj.bias"] += 0.1
    adapter_files.write_adapter(adapters, dataclasses.replace(adapter, tensors=tensors))
    ((line,), output) = lines(adapters, tiny.dense, tiny.wav)
    assert "confidence" not in line and "score" in line
    assert "confidence.json" in output and "calibrate=dev" in output


def test_nothing_recognised_is_not_sure(tiny: Lab, calibrated: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silence.wav", [0.0] * 32000, 16000)
    ((line,), _) = lines(calibrated, tiny.dense, tmp_path / "silence.wav")
    if not line["text"]:
        assert line["confidence"] <= 0.5


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("word_times=false",), "word_times"),
        (("num_shards=2",), "num_shards"),
        ((), "eng/absent.tsv"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tiny: Lab, tmp_path: Path, options: tuple[str, ...], part: str) -> None:
    adapters = shutil.copytree(tiny.adapters, tmp_path / "adapters")
    split = "dev" if options else "absent"
    common = (f"checkpoint={adapters}", f"base={tiny.dense}", f"data={tiny.data}", f"out={tmp_path / 'out'}")
    ended = commands.run("evaluate", *common, f"calibrate={split}", *options)
    assert ended.is_refused() and part in ended.output
    assert not (adapters / "confidence.json").exists()


def test_a_damaged_calibration_is_named(tiny: Lab, calibrated: Path, tmp_path: Path) -> None:
    adapters = shutil.copytree(calibrated, tmp_path / "adapters")
    path = adapters / "confidence.json"
    path.write_text(path.read_text().replace('"bias"', '"other"', 1))
    ended = commands.run("transcribe", tiny.wav, "--checkpoint", adapters, "--base", tiny.dense, "--lang", "eng")
    assert ended.is_refused() and "confidence.json" in ended.output and "bias" in ended.output
