"""A sweep over settings put every job into one folder and refused the second."""

import json
import re
from pathlib import Path

from mms_recipes.command_line import with_job_folders
from tests.known_issues import commands
from tests.known_issues.lab import Lab


def test_each_job_has_a_folder_and_goes_on(tiny: Lab, tmp_path: Path) -> None:
    sweep = ["-m", *tiny.lsah(tmp_path, 2), "optimization.lr=[0.001],[0.002]", "task.num_shards=1"]
    for _ in range(2):  # the same command again finds them done
        ended = commands.run("train", *sweep)
        assert ended.code == 0, ended.output[-3000:]
    assert ended.output.count("nothing to do") == 2
    run = tmp_path / "smoke_lsah"
    for name in ("lr_0.001", "lr_0.002"):
        assert json.loads((run / name / "status.json").read_text())["state"] == "done"
    shown = commands.run("status", run)
    assert shown.code == 0 and re.search(r"lr_0\.001 .*done", shown.output) and "lr_0.002" in shown.output


def test_settings_and_shards(tiny: Lab, tmp_path: Path) -> None:
    sweep = ["-m", *tiny.lsah(tmp_path, 2), "common.seed=1,2", "task.num_shards=2", "task.shard=0"]
    assert commands.run("train", *sweep).code == 0
    for seed in (1, 2):
        assert (tmp_path / f"smoke_lsah/seed_{seed}/shard_0/status.json").exists()
    assert "seed_2/shard_0" in commands.run("status", tmp_path / "smoke_lsah").output


def test_what_names_its_folder_itself_is_left_out() -> None:
    for words in (
        ["-m", "+experiment=a,b", "task.num_shards=2", "task.shard=range(0,2)"],
        ["-m", "name=x_${common.seed}", "common.seed=1,2"],
        ["common.seed=1,2"],
        ["-m", "common.seed=1,2", "hydra.sweep.subdir=mine"],
    ):
        assert with_job_folders(words) == words
    assert (
        "{job_folder:common.seed,experiment}"
        in with_job_folders(["-m", "name=x", "+experiment=a,b", "common.seed=1,2"])[-1]
    )
