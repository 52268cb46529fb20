"""A corpus without a dev split: training says how to make one, or trains without when it is asked to."""

from pathlib import Path

from mms_recipes import adapter_files
from tests.known_issues import commands
from tests.known_issues.lab import Lab


def test_no_dev_split(tiny: Lab, tmp_path: Path) -> None:
    data = tiny.copy_data(tmp_path / "data", "eng", "fra")
    for path in (data / "fra").glob("dev.*"):
        path.unlink()
    places = ("+experiment=smoke_lsah", f"task.data={data}", f"model.base={tiny.dense}", f"runs={tmp_path}")
    short = (*places, "optimization.max_update=2")
    ended = commands.run("train", *short)
    assert ended.is_refused() and f"{data}/fra/dev.tsv" in ended.last_line, ended.output
    assert "--dev-fraction" in ended.last_line and "dataset.disable_validation=true" in ended.last_line
    checked = commands.run("tools/validate_manifests.py", data)
    assert "fra" in checked.output and "--dev-fraction" in checked.output, checked.output
    ended = commands.run("train", *short, "dataset.disable_validation=true")
    assert ended.code == 0, ended.output
    adapters = adapter_files.read_adapters(tmp_path / "smoke_lsah/adapters")
    assert {lang: adapter.dev_cer for lang, adapter in adapters.items()} == {"eng": None, "fra": None}
