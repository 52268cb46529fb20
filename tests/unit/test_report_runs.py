"""Runs are read whole or not at all: what does not belong together is never put side by side."""

import json
import shutil
from pathlib import Path

import pytest

from mms_recipes.report import differences
from mms_recipes.report.runs import read_runs
from tests.unit.evaluations import UTTERANCES, utterance, write_run, write_runs


def test_runs_are_read(tmp_path: Path) -> None:
    dense, lsah = read_runs(write_runs(tmp_path))
    assert (dense.name, lsah.name) == ("dense", "LSAH")
    document = json.loads((tmp_path / "dense" / "scores.json").read_text())
    assert (dense.languages, dense.macro) == (document["languages"], document["macro"])
    assert [score.hypothesis for score in dense.hypotheses["eng"]] == [u[3] for u in UTTERANCES if u[0] == "eng"]


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    folders = [write_runs(tmp_path / name)[0] for name in ("a", "b")]
    assert [run.name for run in read_runs(folders)] == [f"dense ({folder})" for folder in folders]


def test_the_same_run_twice(tmp_path: Path) -> None:
    dense, _ = write_runs(tmp_path)
    with pytest.raises(ValueError, match="the same run was given twice"):
        read_runs([dense, dense])


def test_a_folder_that_is_no_evaluation(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"scores\.json: no scores; run mms_recipes\.evaluate first"):
        read_runs([tmp_path])
    dense, _ = write_runs(tmp_path)
    (dense / "hypotheses.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"hypotheses\.tsv: no such file"):
        read_runs([dense])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["e1", "eng", "a"], r"hypotheses\.tsv:4: 3 cells, expected 6"),
        (["e1", "eng", "a", "b", "one", "1"], r"hypotheses\.tsv:4: errors are 'one' and '1', not counts"),
        (["e1", "eng", "a", "b", "1", "1"], "eng: hypotheses.tsv has 5 word errors, scores.json 6"),
        (["e1", "fra", "a", "b", "2", "4"], "eng: hypotheses.tsv has 2 utterances, scores.json 3"),
        (["e1", "xyz", "a", "b", "2", "4"], "eng: hypotheses.tsv has 2 utterances, scores.json 3"),
    ],
)
def test_hypotheses_that_are_not_those_of_the_scores(tmp_path: Path, cells: list[str], message: str) -> None:
    dense, _ = write_runs(tmp_path)
    lines = (dense / "hypotheses.tsv").read_text().splitlines()
    assert lines[3].startswith("e1\teng")
    lines[3] = "\t".join(cells)
    (dense / "hypotheses.tsv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=message):
        read_runs([dense])


def test_a_column_that_is_missing_and_one_that_is_new(tmp_path: Path) -> None:
    dense, _ = write_runs(tmp_path)
    path = dense / "hypotheses.tsv"
    text = path.read_text()
    path.write_text("".join(f"new\t{line}\n" for line in text.splitlines()))
    assert read_runs([dense])[0].hypotheses["fra"][0].hypothesis == "le chat mort"
    path.write_text(text.replace("hypothesis", "guess", 1))
    with pytest.raises(ValueError, match=r"hypotheses\.tsv:1: no column hypothesis"):
        read_runs([dense])


def test_runs_over_other_utterances_or_references(tmp_path: Path) -> None:
    dense, _ = write_runs(tmp_path)
    scores = [utterance(lang, uid, reference, made) for lang, uid, reference, made, _ in UTTERANCES]
    fewer = write_run(tmp_path / "fewer", scores[:-1])
    with pytest.raises(ValueError, match="jpn: dense scored 1 utterances, fewer 0"):
        read_runs([dense, fewer])
    other = write_run(tmp_path / "other", [*scores[:-1], utterance("jpn", "j1", "ねこがすく", "ねこ")])
    with pytest.raises(
        ValueError, match=r"jpn: dense scored j1 \('ねこがすき'\) where other scored j1 \('ねこがすく'\)"
    ):
        read_runs([dense, other])


def test_runs_under_other_rules(tmp_path: Path) -> None:
    dense = write_runs(tmp_path)[0]
    other = write_runs(tmp_path / "spaces", count_space=True)[1]
    with pytest.raises(ValueError, match="count_space: dense has False, LSAH True"):
        read_runs([dense, other])


def test_differences_are_those_of_the_scores(tmp_path: Path) -> None:
    dense, lsah = read_runs(write_runs(tmp_path))
    apart = differences.between(dense, lsah)
    assert list(apart) == [*dense.languages, "macro"]
    for lang, row in dense.languages.items():
        assert apart[lang]["cer"].value == lsah.languages[lang]["cer"] - row["cer"]
        assert apart[lang]["headline"] == apart[lang]["cer" if lang == "jpn" else "wer"]
    assert apart["macro"]["wer"].value == lsah.macro["wer"] - dense.macro["wer"]


def test_differences_pair_the_utterances(tmp_path: Path) -> None:
    """Utterances differ much more than the runs do: only pairs show that one of these is surely better."""
    references = ["a b c d e f g h"] * 40
    hypotheses = [" ".join("abcdefgh"[: number % 8]) for number in range(40)]
    one = write_run(
        tmp_path / "one",
        [utterance("eng", f"{n:02}", *pair) for n, pair in enumerate(zip(references, hypotheses, strict=True))],
    )
    better = [f"{hypothesis} h" if number % 3 else hypothesis for number, hypothesis in enumerate(hypotheses)]
    two = write_run(
        tmp_path / "two",
        [utterance("eng", f"{n:02}", *pair) for n, pair in enumerate(zip(references, better, strict=True))],
    )
    first, second = read_runs([one, two])
    apart = differences.between(first, second)["eng"]["wer"]
    assert apart.low < apart.value < 0 and apart.verdict == "better"
    assert first.languages["eng"]["wer_low"] < second.languages["eng"]["wer"]  # the plain intervals overlap
    assert differences.between(second, first)["eng"]["wer"].verdict == "worse"
    shutil.copytree(one, tmp_path / "same")
    assert differences.between(first, read_runs([tmp_path / "same"])[0])["eng"]["wer"].verdict == "unclear"
