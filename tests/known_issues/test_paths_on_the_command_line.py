"""Paths with letters that are not ASCII, '=', brackets, '#' or quotes ended in an error of Hydra's lexer."""

from pathlib import Path

import pytest

from mms_recipes import command_line
from tests.known_issues import commands
from tests.known_issues.lab import Lab

NAMES = ["корпус", "新加卷", "epoch=3-step=10", "corpus (v2)", "c#1", "l'ita", "a[1]", "{x}", "q\"x'y", "blank ", "a,b"]
NAMES += ["~x", "a$b", "${home}", "back\\slash", "ends\\", "a&b;c|d!", "my corpus", "x:y", "wav%20x"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).mkdir()
    return tmp_path


def test_evaluate_takes_them(tiny: Lab, folder: Path) -> None:
    for name in NAMES:
        (folder / name / "eng").symlink_to(tiny.data / "eng")
        given = (f"checkpoint={tiny.adapters}", f"data={folder / name}", "langs=[eng]", f"out={folder / 'scores'}")
        ended = commands.run("evaluate", *given)
        assert ended.code == 0, (name, ended.output[-1000:])


def test_train_takes_them(tiny: Lab, folder: Path) -> None:
    data, runs = folder / "corpus (v2)" / "épo=3", folder / "корпус"
    data.symlink_to(tiny.data)
    arguments = [word for word in tiny.lsah(runs, 2) if not word.startswith("task.data=")]
    ended = commands.run("train", *arguments, f"task.data={data}")
    assert ended.code == 0 and (runs / "smoke_lsah/adapters").is_dir(), ended.output[-2000:]
    (folder / "${home}/data").symlink_to(tiny.data)
    refused = commands.run("train", *arguments, f"task.data={folder}/${{home}}/data")
    assert refused.is_refused() and "ln -s" in refused.last_line


MEANT = "langs=[eng,fra] seed=1 base=null out=${name}/x lr=[0.1,0.2] x='a' +experiment=demo a= ~a model={a:1} x=true"


@pytest.mark.parametrize("word", [*MEANT.split(), "data=/a b", "task.shard=range(0,4)"])
def test_what_has_a_meaning_keeps_it(word: str) -> None:
    assert command_line.quoted([word]) == [word]


def test_commas_are_sweeps_with_m_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert command_line.quoted(["data=a,b"]) == ["data='a,b'"]
    assert command_line.quoted(["-m", "data=a,b"])[1] == "data=a,b"
    assert command_line.quoted(["-m", "data=корпус,my corpus"])[1] == "data='корпус',my corpus"
    assert command_line.quoted(["corpora=[/x/корпус, b]"]) == ["corpora=['/x/корпус',b]"]
    assert command_line.quoted(["--config-dir", "a=b(c)", "data=~/x"])[1:] == ["a=b(c)", f"data='{Path.home()}/x'"]


@pytest.mark.parametrize(("word", "told"), [("--data=x", "write data=..."), ("data", "expected key=value")])
def test_other_spellings_are_told(word: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        command_line.quoted([word])
