"""Dev utterances without a finite loss: the language is named, and what was trained is kept."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mms_recipes import checkpoints
from mms_recipes.tasks.speech import SpeechTask, SpeechTaskConfig
from tests.known_issues import commands
from tests.known_issues.lab import OFTEN, Lab


def without_numbers(data: Path, lang: str) -> None:
    """Replace the dev audio of a language by NaN."""
    for path in (data / lang / "audio").glob("dev_*.wav"):
        frames = soundfile.info(path).frames
        soundfile.write(path, np.full(frames, np.nan, np.float32), 16_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("experiment", "langs"),
    [
        ("smoke_lsah", ("fra",)),
        ("smoke_ctc", ("eng", "fra")),
        ("smoke_lid", ("eng", "fra")),
        ("smoke_pretrain", ("eng", "fra")),
    ],
)
def test_dev_audio_is_nan(tiny: Lab, tmp_path: Path, experiment: str, langs: tuple[str, ...]) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng", "fra")
    for lang in langs:
        without_numbers(data, lang)
    base = {"smoke_lsah": tiny.dense, "smoke_pretrain": None}.get(experiment, tiny.pretrained)
    start = [f"model.base={base}"] if base else []
    places = (f"task.data={data}", f"runs={tmp_path}", *start, "optimization.max_update=4")
    ended = commands.run("train", f"+experiment={experiment}", *places, *OFTEN)
    assert ended.code == 0, ended.output
    if experiment == "smoke_pretrain":
        assert "update 4: the dev loss is not finite" in ended.output
    else:
        assert f"no dev utterance of {', '.join(langs)} has a finite loss" in ended.output
    last = tmp_path / experiment / "checkpoints/checkpoint_last.pt"
    assert checkpoints.num_updates(last) == 4
    assert last.with_name("checkpoint_best.pt").exists() == (len(langs) == 1)


def test_the_model_is_not_finite(tiny: Lab) -> None:
    """The checkpoint before must not be replaced by one of a model that has diverged."""
    task = SpeechTask(SpeechTaskConfig(data=str(tiny.data)))
    model = torch.nn.Linear(2, 2)
    stats = {"num_updates": 7, "loss": math.inf}
    task.post_validate(model, stats, None)
    torch.nn.init.constant_(model.bias, math.nan)
    with pytest.raises(
        ValueError, match=r"update 7: 1 parameters are not finite \(bias, \.\.\.\).*lower optimization\.lr"
    ):
        task.post_validate(model, stats, None)


def test_diverged(tiny: Lab, tmp_path: Path) -> None:
    places = (f"task.data={tiny.data}", f"runs={tmp_path}", f"model.base={tiny.dense}", "optimization.max_update=8")
    ended = commands.run("train", "+experiment=smoke_lsah", *places, *OFTEN, "optimization.lr=[1e12]")
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output
    assert "no dev utterance of eng, fra, jpn has a finite loss" in ended.output
    assert checkpoints.num_updates(tmp_path / "smoke_lsah/checkpoints/checkpoint_last.pt") == 8
