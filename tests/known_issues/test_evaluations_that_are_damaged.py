"""scores.json, shards and what else an evaluation leaves, with values of another kind, ended in tracebacks.

Each value of each file is replaced, taken out or made null: the command that reads it ends as it should or in a message
with the file; never in a traceback.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mms_recipes.cluster import progress
from mms_recipes.corpora import prepared
from mms_recipes.evaluation import tuner
from mms_recipes.lid import calibration
from mms_recipes.report import __main__ as report
from tests.known_issues import commands
from tests.known_issues.lab import Lab
from tests.unit import test_report_lid as lid
from tests.unit.evaluations import write_benchmark

OTHERS: list[Any] = [None, [], {}, "text", -1, 1.5, True, "gone"]
FREE = ("languages", "answers", "corpora", "found", "weights")  # names of languages: the first stands for all


def changed(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield copies of a document, each with one value that is another or not there, and where it is."""
    for at in places(document):
        for other in OTHERS:
            copy = json.loads(json.dumps(document))
            inside = copy
            for step in at[:-1]:
                inside = inside[step]
            if other == "gone":
                del inside[at[-1]]
            else:
                inside[at[-1]] = other
            yield f"{at}: {other!r}", copy
    yield from (("all of it", other) for other in OTHERS)


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, value in [*pairs][: 1 if isinstance(document, list) or (at and at[-1] in FREE) else None]:
        yield (*at, name)
        yield from places(value, (*at, name))


@pytest.mark.parametrize("kind", ["recognition", "identification"])
def test_scores(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_benchmark(tmp_path / "run") if kind == "recognition" else lid.write_two(tmp_path, "one", "two")[0]
    path, refused = run / "scores.json", 0
    document = json.loads(path.read_text())
    for where, other in changed(document):
        path.write_text(json.dumps(other))
        if report.main([str(run)]):
            said = capsys.readouterr().err
            assert said.startswith(str(run)), (where, said)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("text", ["", "{", "null", "[]", '{"languages": NaN}', "\ufeff{}", "[" * 5000])
def test_scores_that_are_no_scores(tmp_path: Path, text: str) -> None:
    run = write_benchmark(tmp_path / "run")
    (run / "scores.json").write_text(text)
    ended = commands.run("report", run)
    assert ended.is_refused() and f"{run / 'scores.json'}" in ended.output, ended


def read_each(contents: list[Any], path: Path, reader: str) -> int:
    """Read a file with each of these contents; whatever is not ValueError ends in a traceback."""
    readers: dict[str, Any] = {
        "prepared": lambda: prepared.read(path.parent),
        "status": lambda: progress.read(path.parent),
        "temperature": lambda: calibration.read_temperature(path.parent, "a"),
        "tuning": lambda: tuner.table(tuner.merge(path.parent.parent)),
    }
    for content in contents:
        path.write_text(json.dumps(content))
        try:
            readers[reader]()
        except ValueError as error:
            assert str(error).startswith(str(path.parent.parent)), error
        except FileNotFoundError as error:  # a shard of more than there are
            assert "missing" in str(error), error
    return 0


RATES = {"wer": 1.0, "cer": 2.0}
TUNED = {"lm_weight": 1.0, "word_score": 0.0, "sil_score": 0.0, "utterances": 2, "inputs": "a", "date": "b"}
FILES: dict[str, tuple[str, Any]] = {
    "prepared": (
        "prepared.json",
        {
            "normalization": ["mms-1"],
            "languages": {"eng": {"splits": {"dev": {"settings": {"normalization": "a"}, "left_out": {"x": ["y"]}}}}},
        },
    ),
    "status": (
        "status.json",
        {"state": "done", "langs": ["eng"], "dev_cer": {"eng": 1.0}, "num_updates": 3, "job": ""},
    ),
    "temperature": (
        "temperature.json",
        {"temperature": 1.0, "utterances": 3, "data": "x", "split": "dev", "model": "a"},
    ),
    "tuning": (
        "shards/0.json",
        {
            "settings": {"shard": 0, "num_shards": 1},
            "expected": {"eng": 2},
            "found": {"eng": TUNED | {stage: RATES for stage in tuner.STAGES}},
        },
    ),
}


@pytest.mark.parametrize("kind", FILES)
def test_other_files(tmp_path: Path, kind: str) -> None:
    name, document = FILES[kind]
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    contents = [document, *(other for _, other in changed(document))]
    ended = commands.call(read_each, contents, path, kind)
    assert ended.code == 0, ended


def merge_each(out: Path, contents: list[Any]) -> int:
    """Merge an evaluation whose second shard has each of these contents."""
    import sys

    sys.path.insert(0, str(commands.REPOSITORY / "tools"))
    import merge_scores  # type: ignore[import-not-found]

    for content in contents:
        (out / "shards/1.json").write_text(json.dumps(content))
        merge_scores.main([str(out)])
    return 0


@pytest.mark.parametrize("kind", ["recognition", "identification"])
def test_shards(tiny: Lab, tmp_path: Path, kind: str) -> None:
    model = [f"checkpoint={tiny.adapters}"] if kind == "recognition" else [f"checkpoint={tiny.lid}", "+benchmark=lid"]
    data = tiny.copy_data(tmp_path / "data", "eng", "fra")
    out = tmp_path / "out"
    for shard in range(2):
        ended = commands.run("evaluate", *model, f"data={data}", f"out={out}", "num_shards=2", f"shard={shard}")
        assert ended.code == 0, ended
    path = out / "shards/1.json"
    document = json.loads(path.read_text())
    assert commands.run("tools/merge_scores.py", out).code == 0
    others = [other for _, other in changed(document)][:: 1 if kind == "recognition" else 5]  # it draws each time
    ended = commands.call(merge_each, out, others)
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output[-3000:]
    path.write_text(json.dumps(document))
    if kind == "identification":
        arrays = dict(np.load(out / "shards/1.npz"))
        whole = (out / "shards/1.npz").read_bytes()
        for name, array in arrays.items():
            for other in (array[:-1], array.astype("U8"), array[..., None], array.astype(float) * np.nan):
                np.savez(out / "shards/1.npz", **(arrays | {name: other}))  # type: ignore[arg-type]
                assert commands.run("tools/merge_scores.py", out).is_refused(), name
        for content in (b"", whole[: len(whole) // 2], b"PK" + whole[2:100]):
            (out / "shards/1.npz").write_bytes(content)
            assert commands.run("tools/merge_scores.py", out).is_refused()
    shutil.rmtree(out)
