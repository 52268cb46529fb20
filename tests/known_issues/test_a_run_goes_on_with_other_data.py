"""Audio, labels or utterances changed between two starts of a run: named, and accepted when that is asked for."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.known_issues import commands, runs
from tests.known_issues.lab import OFTEN, Lab
from tests.known_issues.runs import ACCEPT, Run, edit


@pytest.fixture(scope="module")
def begun(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return runs.begin(tiny, tmp_path_factory.mktemp("begun"), "smoke_lsah", "eng", "fra")


def labels(data: Path) -> str:
    edit(data / "eng/train.ltr", lambda lines: lines[::-1])
    edit(data / "eng/train.wrd", lambda lines: lines[::-1])
    return "eng/train.ltr: other labels of the same utterances"


def one_more(data: Path) -> str:
    for suffix in ("tsv", "ltr", "wrd", "uid"):
        edit(data / f"fra/dev.{suffix}", lambda lines: [*lines, lines[-1].replace("dev_2", "dev_3")])
    shutil.copy(data / "fra/audio/dev_2.wav", data / "fra/audio/dev_3.wav")
    return "fra/dev.tsv: 3 utterances before, 4 now"


def other_audio(data: Path) -> str:
    path = data / "eng/audio/train_3.wav"
    samples = soundfile.info(path).frames
    soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(samples), 16_000, subtype="PCM_16")
    return "eng/train.tsv: other audio in files of the same names"


CHANGES = {change.__name__: change for change in (labels, one_more, other_audio)}


@pytest.mark.parametrize("change", CHANGES)
def test_named(begun: Run, tmp_path: Path, change: str) -> None:
    run = begun.copy(tmp_path)
    told = CHANGES[change](run.data)
    run.is_refused(told, "has other data than it began with", ACCEPT, "name=...")


def test_accepted(begun: Run, tmp_path: Path) -> None:
    """run.json then has both, and the run goes on again without asking. A folder that has moved is no change."""
    run = begun.copy(tmp_path)
    before = json.loads((run.folder / "run.json").read_text())
    assert "accept_changes" not in run.goes_on()
    told = one_more(run.data)
    ended = run.train(8, "optimizer.weight_decay=0.01")
    assert ended.is_refused() and told in ended.last_line and "optimizer.weight_decay" in ended.last_line, ended.output
    ended = run.train(8, "optimizer.weight_decay=0.01", ACCEPT)
    assert ended.code == 0 and f"accept_changes=true: {told}" in ended.output, ended.output
    after = json.loads((run.folder / "run.json").read_text())
    (earlier,) = after["earlier"]
    assert earlier["until_update"] == 6 and earlier["config"]["optimizer.weight_decay"] == 0.0
    assert (
        earlier["manifests"]["fra/dev.ltr"] == before["manifests"]["fra/dev.ltr"] != after["manifests"]["fra/dev.ltr"]
    )
    assert earlier["splits"]["fra/dev"]["utterances"] == 3 and after["splits"]["fra/dev"]["utterances"] == 4
    ended = run.train(10, "optimizer.weight_decay=0.01")
    assert ended.code == 0, ended.output
    assert json.loads((run.folder / "run.json").read_text())["earlier"] == [earlier]


def test_a_language_more_for_a_dense_model(tiny: Lab, tmp_path: Path) -> None:
    run = runs.begin(tiny, tmp_path, "smoke_ctc", "eng", "fra")
    shutil.copytree(run.data / "fra", run.data / "deu")
    run.is_refused("deu/train.tsv was not there", ACCEPT)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("dense", ("row 5", "letters there", "Use model.base instead", "begins a new head")),
        ("pretrained", ("holds a 'wav2vec2' model, this run trains 'wav2vec_ctc'", "Use model.base instead")),
        ("adapters", ("a folder, expected the checkpoint (.pt)", "model.base= the dense checkpoint")),
        ("nowhere", ("no such file",)),
    ],
)
def test_finetune_from_model(tiny: Lab, tmp_path: Path, given: str, told: tuple[str, ...]) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng")
    edit(data / "dict.ltr.txt", lambda lines: [lines[0], lines[2], lines[1], *lines[3:]])
    path = getattr(tiny, given, tmp_path / "nowhere.pt")
    places = (f"task.data={data}", f"model.base={tiny.pretrained}", f"runs={tmp_path}", *OFTEN)
    ended = commands.run("train", "+experiment=smoke_ctc", *places, f"checkpoint.finetune_from_model={path}")
    assert ended.is_refused(), ended.output
    for fact in (*told, f"{path}"):
        assert fact in ended.last_line, ended.last_line
