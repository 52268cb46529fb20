"""An evaluation that is split over jobs and put together says what one job says, or nothing."""

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from mms_recipes import config
from mms_recipes.evaluation import evaluator
from tests.fairseq import tones
from tests.fairseq.small import Pretrained
from tools import merge_scores


@pytest.fixture
def run(tmp_path: Path, pretrained: Pretrained) -> Path:
    data = tones.write_corpus(tmp_path / "data", train=4, dev=5)
    settings = ("optimization.max_update=10", "dataset.validate_interval_updates=10", f"model.base={pretrained.path}")
    tones.train("smoke_lsah", data, tmp_path, *settings)
    return tmp_path


def evaluate(run: Path, out: str, *overrides: str) -> Path:
    config.register()
    given = [f"checkpoint={run / 'smoke_lsah/adapters'}", f"data={run / 'data'}", f"out={run / out}", *overrides]
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return evaluator.evaluate(compose("evaluate", overrides=given))


def test_shards_together_are_the_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = evaluate(run, "whole")
    for shard in range(3):  # of four languages
        out = evaluate(run, "parts", "num_shards=3", f"shard={shard}", f"device={'auto' if shard else 'cpu'}")
        assert not (out / "scores.json").exists()
    assert merge_scores.main([str(out)]) == 0
    assert "macro" in capsys.readouterr().out
    one, other = (json.loads((folder / "scores.json").read_text()) for folder in (whole, out))
    told = {"out": "", "device": ""}
    assert one["settings"] | told == other["settings"] | told
    assert (one["languages"], one["macro"]) == (other["languages"], other["macro"])
    for name in ("scores.tsv", "worst_utterances.txt"):
        assert (whole / name).read_text() == (out / name).read_text()
    assert (out / "words.tsv").exists()


def test_nothing_is_told_of_fewer_utterances(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = evaluate(run, "parts", "num_shards=3", "shard=0")
    evaluate(run, "parts", "num_shards=3", "shard=2")
    assert merge_scores.main([str(out)]) == 1
    assert "1 of 3 shards missing: 1; run the same command with shard=... of each first" in capsys.readouterr().err
    evaluate(run, "parts", "num_shards=3", "shard=1", "count_space=true")
    assert merge_scores.main([str(out)]) == 1
    assert "1.json: count_space is True, but False in " in capsys.readouterr().err
    evaluate(run, "parts", "num_shards=3", "shard=1")
    path = out / "shards/1.json"
    fields = json.loads(path.read_text())
    fields["scores"].pop()
    path.write_text(json.dumps(fields))
    assert merge_scores.main([str(out)]) == 1
    assert "scored 4 utterances, expected 5 as in its manifest" in capsys.readouterr().err
    path.write_text(json.dumps(fields | {"scores": [{}]}))
    assert merge_scores.main([str(out)]) == 1
    assert "1.json: not the scores of a shard" in capsys.readouterr().err
    shutil.rmtree(out / "shards")
    assert merge_scores.main([str(out)]) == 1
    assert "nothing there; run every shard with num_shards=... shard=... first" in capsys.readouterr().err
    assert not (out / "scores.json").exists()


def test_shard_out_of_range_is_told(run: Path) -> None:
    with pytest.raises(ValueError, match="shard is 3, expected 0 to 2"):
        evaluate(run, "parts", "num_shards=3", "shard=3")
