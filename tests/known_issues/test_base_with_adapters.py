"""A file or folder with adapters as `model.base`: the head of its first language counted as the dense one."""

from pathlib import Path

import pytest

from mms_recipes import checkpoints
from tests.known_issues import commands
from tests.known_issues.lab import Lab


@pytest.fixture(scope="module")
def with_adapters(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The lab's adapters in one file, and in a folder of Hugging Face's, with and without files of adapters."""
    folder = tmp_path_factory.mktemp("with_adapters")
    found = [folder / "one.pt", folder / "hf", folder / "one_language"]
    for path in found:
        langs = ("--langs", "eng") if path.name == "one_language" else ()
        to = "fairseq" if path.suffix else "huggingface"
        assert commands.run("convert", tiny.adapters, path, "--to", to, *langs).code == 0
    (folder / "one_language" / "adapter.eng.safetensors").unlink()
    return found


def test_head_init_dense_is_refused(tiny: Lab, with_adapters: list[Path], tmp_path: Path) -> None:
    for path in with_adapters:
        asked = (*tiny.lsah(tmp_path / path.name, 2), f"model.base={path}")
        refused = commands.run("train", *asked, "model.head_init=dense")
        assert refused.is_refused(), refused.output
        for fact in (str(path), "no dense head", "eng", "model.head_init=random model.adapter_init=kaiming"):
            assert fact in refused.last_line
    done = commands.run("train", *asked, "model.head_init=random", "model.adapter_init=kaiming")
    assert done.code == 0, done.output


def test_the_encoder_alone_is_a_base_of_other_tasks(tiny: Lab, with_adapters: list[Path], tmp_path: Path) -> None:
    expected = checkpoints.read_base(tiny.dense).hash
    for path in with_adapters:
        base = checkpoints.read_base(path)
        assert base.head is None and base.hash == expected
    for task in ("ctc", "lid"):
        run = (f"+experiment=smoke_{task}", f"task.data={tiny.data}", f"runs={tmp_path}", "optimization.max_update=4")
        done = commands.run("train", *run, f"model.base={with_adapters[1]}")
        assert done.code == 0, done.output
