"""Going on with a run after its dictionary, classes, languages or base changed: the rows of its model mean what they
meant when it began, so it is refused, and no setting accepts it.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mms_recipes import checkpoints
from tests.known_issues import commands, runs
from tests.known_issues.lab import Lab
from tests.known_issues.runs import Run, edit


@pytest.fixture(scope="module")
def begun(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each kind on eng and fra."""
    home = tmp_path_factory.mktemp("begun")
    kinds = ("smoke_ctc", "smoke_lsah", "smoke_lid")
    return {kind: runs.begin(tiny, home / kind, kind, "eng", "fra") for kind in kinds}


def exchange(lines: list[str]) -> list[str]:
    return [lines[0], lines[2], lines[1], *lines[3:]]


@pytest.mark.parametrize(
    ("experiment", "dictionary"), [("smoke_ctc", "dict.ltr.txt"), ("smoke_lsah", "fra/dict.ltr.txt")]
)
def test_dictionary(begun: dict[str, Run], tmp_path: Path, experiment: str, dictionary: str) -> None:
    run = begun[experiment].copy(tmp_path)
    path = run.data / dictionary
    letters = [line.split()[0] for line in path.read_text().splitlines()]
    size = len(letters) + 4
    edit(path, exchange)
    told = (f"{path}:2: row 5 of the head is '{letters[2]}'", f"{run.last} has '{letters[1]}'")
    run.is_never_accepted(*told, "the same in another order", f"Restore {path}")
    run.is_refused(*told)
    edit(path, lambda lines: [*exchange(lines), "ž 3"])
    row = f"{path}:{size - 3}: row {size} of the head is 'ž'"
    run.is_never_accepted(row, "has nothing", "new: ž", f"{size} letters there, {size + 1} here")
    edit(path, lambda lines: [lines[0], "ž 9", *lines[2:-1]])
    run.is_never_accepted("row 5 of the head is 'ž'", f"has '{letters[1]}'", f"new: ž; gone: {letters[1]}")
    # other counts and the same order are the same letters
    edit(path, lambda _: [f"{letter} {1000 - number}" for number, letter in enumerate(letters)])
    run.goes_on()


def test_runs_of_before_the_letters_were_kept(begun: dict[str, Run], tmp_path: Path) -> None:
    """run.json has the checksums of the dictionaries, and adapters their letters: such a run goes on, or is refused."""
    run = begun["smoke_lsah"].copy(tmp_path)
    state = torch.load(run.last, weights_only=False)
    for name in ("heads", "base_hash"):
        del state["task_state"][name]
    torch.save(state, run.last)
    record = json.loads((run.folder / "run.json").read_text())
    del record["splits"]
    (run.folder / "run.json").write_text(json.dumps(record))
    shutil.copy(begun["smoke_lsah"].data / "eng/train.tsv", run.data / "eng/train.tsv")  # such a run has not moved
    for split in ("train", "dev"):
        for lang in ("eng", "fra"):
            shutil.copy(begun["smoke_lsah"].data / lang / f"{split}.tsv", run.data / lang / f"{split}.tsv")
    path = run.data / "fra/dict.ltr.txt"
    edit(path, exchange)
    run.is_never_accepted(f"{path}:2: row 5 of the head is ", "the same in another order")
    adapter = run.folder / "adapters/fra.safetensors"
    adapter.rename(run.folder / "kept")
    run.is_refused(f"{path}: changed since this run began (run.json has its SHA-256 ", "restore the file")
    edit(path, exchange)
    (run.folder / "kept").rename(adapter)
    run.is_refused("gone: fra", overrides=["task.langs=[eng]"])
    run.goes_on()


@pytest.mark.parametrize(
    ("langs", "told"),
    [
        ("[fra,eng]", ("another order: eng, fra there, fra, eng here", "task.langs=[eng,fra]")),
        ("[eng]", ("gone: fra", "task.langs=[eng,fra]")),
        ("[]", ("new: jpn", "name=... task.langs=[jpn]", "adapters: evaluate, transcribe and merge take")),
    ],
)
def test_languages_of_lsah(begun: dict[str, Run], tiny: Lab, tmp_path: Path, langs: str, told: tuple[str, ...]) -> None:
    run = begun["smoke_lsah"].copy(tmp_path)
    shutil.copytree(tiny.data / "jpn", run.data / "jpn")
    run.is_never_accepted(*told, overrides=[f"task.langs={langs}"])


def test_one_language_more(begun: dict[str, Run], tiny: Lab, tmp_path: Path) -> None:
    """The way that the message names works: another run, and its file beside the others."""
    run = begun["smoke_lsah"].copy(tmp_path)
    shutil.copytree(tiny.data / "jpn", run.data / "jpn")
    ended = run.train(4, "task.langs=[jpn]", "name=more")
    assert ended.code == 0, ended.output
    shutil.copy(run.folder.parent / "more/adapters/jpn.safetensors", run.folder / "adapters")
    out = tmp_path / "scores"
    ended = commands.run("evaluate", f"checkpoint={run.folder / 'adapters'}", f"data={run.data}", f"out={out}")
    assert ended.code == 0, ended.output
    assert json.loads((out / "scores.json").read_text())["languages"].keys() == {"eng", "fra", "jpn"}
    run.goes_on("task.langs=[eng,fra]")  # the languages that were found are as good when they are named


def test_classes_of_identification(begun: dict[str, Run], tmp_path: Path) -> None:
    run = begun["smoke_lid"].copy(tmp_path)
    (run.data / "fra").rename(run.data / "deu")
    where = "task.classes=(the folders found): row"
    run.is_never_accepted(f"{where} 0 of the head is 'deu'", "has 'eng'", "new: deu; gone: fra", "model.base=")
    shutil.copytree(run.data / "deu", run.data / "fra")
    (run.data / "deu").rename(run.data / "ita")
    run.is_never_accepted(f"{where} 2 of the head is 'ita'", "has nothing", "2 classes there, 3 here; new: ita")
    names = run.data / "classes.txt"
    names.write_text("fra 1\neng 1\n")
    run.is_never_accepted("row 0 of the head is 'fra'", "in another order", overrides=[f"task.classes={names}"])


def test_base(begun: dict[str, Run], tiny: Lab, tmp_path: Path) -> None:
    """The file of an LSAH run's base is another of the same shape, or the checkpoint is of a run on another base."""
    run = begun["smoke_lsah"].copy(tmp_path)
    state = torch.load(tiny.dense, weights_only=False)
    other = {name: tensor * 1.5 if "fc1.weight" in name else tensor for name, tensor in state["model"].items()}
    base = tmp_path / "other.pt"
    torch.save(state | {"model": other}, base)
    hashes = [checkpoints.read_base(path).hash for path in (tiny.dense, base)]
    told = (f"is base {hashes[1]}", f"trained on {hashes[0]}")
    run.is_never_accepted(*told, overrides=[f"model.base={base}"])
    run.is_never_accepted(
        *told, overrides=[f"model.base={base}", "name=other", f"checkpoint.finetune_from_model={run.last}"]
    )
    own = torch.load(run.last, weights_only=False)
    del own["task_state"]["base_hash"]  # as before it was kept: the adapters have it
    torch.save(own, run.last)
    run.is_never_accepted(*told, overrides=[f"model.base={base}"])


def test_sizes(begun: dict[str, Run]) -> None:
    """What makes tensors of another size is never offered to be accepted."""
    run = begun["smoke_lsah"]
    run.is_never_accepted("blocks.0.W_a: found (2, ", "expected (2, 4, ", "name=...", overrides=["model.adapter_dim=4"])
