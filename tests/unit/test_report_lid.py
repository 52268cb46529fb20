"""Pages of language identification without a browser: read back, side by side, and what cannot stand side by side."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mms_recipes.lid.scores import Answer, Crops
from mms_recipes.report import __main__ as command
from mms_recipes.report import differences, lid_files, lid_runs
from mms_recipes.report.differences import Difference
from tests.unit.evaluations import write_runs
from tests.unit.test_report_page import HOSTILE, Elements

GIVEN = {  # language, uid: what two models answered
    ("eng", "e1"): ("eng", "eng"),
    ("eng", "e2"): ("fra", "eng"),
    ("eng", "e3"): ("fra", "eng"),
    ("fra", "f1"): ("fra", "eng"),
    ("fra", "f2"): ("fra", "fra"),
}


def answers(model: int, corpus: str = "") -> list[Answer]:
    """What a model answered; the right class is the second where it is not the first."""
    found = []
    for (lang, uid), given in GIVEN.items():
        best = [(given[model], 0.75), ("fra" if given[model] == "eng" else "eng", 0.25)]
        rank = [name for name, _ in best].index(lang) + 1
        found.append(Answer(uid, lang, lang, 2.0, rank, best, 0.9, corpus))
    return found


def write_run(folder: Path, listed: Sequence[Answer], benchmark: Any = None, **settings: Any) -> Path:
    known = {"name": folder.name, "split": "test", "checkpoint": "lid.pt", "classes": 2, "classes_of_the_model": 2}
    lid_files.write(folder, listed, [Crops(1.0, listed, listed)], known | settings, None, benchmark)
    return folder


def without_times(page: Path) -> str:
    """A page without its two times, of writing and of scoring, between which and the next page a minute may end."""
    text, count = re.subn(r"\b\d{4}-\d\d-\d\d \d\d:\d\d\b", "", page.read_text())
    assert count == 2
    return text


def write_two(folder: Path, *corpora: str) -> list[Path]:
    names = corpora or ("",)
    return [
        write_run(folder / name, [one for corpus in names for one in answers(model, corpus)])
        for model, name in enumerate(("small", "large"))
    ]


# ---- differences


def test_differences_by_hand() -> None:
    found = differences.between_accuracies(answers(0), answers(1))
    assert [found[key].value for key in ("eng", "fra", "macro", "micro")] == pytest.approx([200 / 3, -50, 25 / 3, 20])
    assert found["eng"].low < 200 / 3 <= found["eng"].high
    same = differences.between_accuracies(answers(0), answers(0))
    assert {(one.value, one.low, one.high, one.verdict) for one in same.values()} == {(0, 0, 0, "unclear")}


def test_intervals_pair_the_utterances() -> None:
    """By chance, but the second is right wherever the first is and in a tenth more: the interval is narrow."""
    rng = np.random.default_rng(3)
    hits = rng.random(400) < 0.5
    more = hits | (rng.random(400) < 0.2)
    runs = [
        [Answer(f"u{n}", "eng", "eng", 1.0, 1 if hit else 2, [("eng", 0.5)], 0.5) for n, hit in enumerate(listed)]
        for listed in (hits, more)
    ]
    found = differences.between_accuracies(*runs)["eng"]
    gain = 100 * float((more & ~hits).mean())
    assert found.value == pytest.approx(gain)
    width = 2 * 1.96 * 100 * np.sqrt(gain / 100 * (1 - gain / 100) / 400)  # of a share, not of two
    assert found.high - found.low == pytest.approx(width, rel=0.15)
    assert found.verdict == "better" and differences.between_accuracies(runs[1], runs[0])["eng"].verdict == "worse"


def test_more_is_better_of_accuracy_and_worse_of_errors() -> None:
    said = [
        (Difference(1, 0.5, 2, accuracy).verdict, Difference(-1, -2, -0.5, accuracy).verdict)
        for accuracy in (True, False)
    ]
    assert said == [("better", "worse"), ("worse", "better")]
    assert Difference(1, 0, 2, True).verdict == Difference(-1, -2, 0.0).verdict == "unclear"


# ---- what is read back


@pytest.mark.parametrize("corpora", [(), ("one", "two")])
def test_answers_are_read_as_they_were_written(tmp_path: Path, corpora: tuple[str, ...]) -> None:
    folder = write_two(tmp_path, *corpora)[0]
    (run,) = lid_runs.read_runs([folder])
    written = [one for corpus in corpora or ("",) for one in answers(0, corpus)]
    assert run.answers == [dataclasses.replace(one, raw=one.best[0][1]) for one in sorted(written, key=lid_runs.order)]
    before = without_times(folder / "report.html")
    assert command.main([str(folder)]) == 0
    assert without_times(folder / "report.html") == before  # evaluate and report write one page


def test_files_of_two_evaluations_are_refused(tmp_path: Path) -> None:
    small, large = write_two(tmp_path)
    (small / "predictions.tsv").write_text((large / "predictions.tsv").read_text())
    with pytest.raises(
        ValueError, match=r"small: eng: predictions.tsv has 3 right answers, scores.json 1: they are of two"
    ):
        lid_runs.read_runs([small])
    text = (large / "predictions.tsv").read_text()
    (large / "predictions.tsv").write_text("\n".join(text.splitlines()[:-1]) + "\n")
    with pytest.raises(
        ValueError, match=r"large: fra: predictions.tsv has 1 utterances, scores.json 2: they are of two"
    ):
        lid_runs.read_runs([large])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("uid", "id", "predictions.tsv:1: no column uid .found .lang, id, class"),
        (
            "2.000",
            "long",
            r"predictions.tsv:2: not a line as evaluate writes it \(could not convert .*'long'\); evaluate",
        ),
        ("\t1\t", "\t", "predictions.tsv:2: 5 cells, expected 6"),
        ('[["eng"', '[[eng"', "predictions.tsv:2: not a line as evaluate writes it"),
    ],
)
def test_damaged_predictions(tmp_path: Path, old: str, new: str, said: str) -> None:
    folder = write_two(tmp_path)[0]
    path = folder / "predictions.tsv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=said):
        lid_runs.read_runs([folder])


def test_missing_predictions(tmp_path: Path) -> None:
    folder = write_two(tmp_path)[0]
    (folder / "predictions.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"predictions.tsv: no such file, though evaluate writes it beside"):
        lid_runs.read_runs([folder])


# ---- side by side


def test_two_runs_on_one_page(tmp_path: Path) -> None:
    runs = write_two(tmp_path, "one", "two")
    out = tmp_path / "page.html"
    assert command.main([*map(str, runs), "-o", str(out)]) == 0
    text = out.read_text()
    for said in ("small, large: language identification", "large − small", "macro +8.33 against small", "By corpus"):
        assert said in text
    assert text.count("<article>") == 2 * 3  # e2, e3, f1 in both corpora
    assert text.count('class="r1">large</b> eng ✓ 75.0 %') == 4  # e2 and e3, which only it has right
    assert text.count("data:image/png;base64,") == 2


def test_different_numbers_of_classes_are_said(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"of{size}", answers(0), classes=size) for size in (2, 8)]
    out = tmp_path / "page.html"
    assert command.main([*map(str, runs), "--out", str(out)]) == 0
    assert "2 of 2, 8 of 2" in out.read_text() and "among fewer it is easier to be right" in out.read_text()


@pytest.mark.parametrize(
    ("listed", "settings", "said"),
    [
        (answers(1)[:4], {}, "fra: small scored 2 utterances, other 1"),
        (answers(1), {"split": "dev"}, "split: small has test, other dev"),
        (answers(1), {"protocol": "fleurs_lid"}, "protocol: small has None, other fleurs_lid"),
        (
            [*answers(1)[:4], dataclasses.replace(answers(1)[4], uid="f9")],
            {},
            "small scored fra/f2 where other scored fra/f9",
        ),
        (answers(1, "two"), {}, "small scored eng/e1 where other scored two/eng/e1; compare evaluations of the same"),
    ],
)
def test_other_utterances_or_rules_are_refused(
    tmp_path: Path, capsys: Any, listed: list[Answer], settings: dict[str, str], said: str
) -> None:
    runs = [write_two(tmp_path)[0], write_run(tmp_path / "other", listed, **settings)]
    assert command.main([*map(str, runs), "--out", str(tmp_path / "page.html")]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "page.html").exists()


def test_identification_and_recognition_do_not_mix(tmp_path: Path, capsys: Any) -> None:
    lid, asr = write_two(tmp_path / "lid")[0], write_runs(tmp_path)[0]
    for runs in ((lid, asr), (asr, lid)):
        assert command.main([*map(str, runs), "--out", str(tmp_path / "page.html")]) == 1
        said = capsys.readouterr().err
        assert f"{lid}: language identification; {asr}: speech recognition: their scores do not stand side by" in said
    assert command.main([str(lid), "--png", str(tmp_path / "png"), "--worst", "3"]) == 1
    assert "--worst, --png: of speech recognition; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


def test_names_stay_text(tmp_path: Path) -> None:
    """Names of runs, corpora and utterances are escaped wherever they stand."""
    hostile = [dataclasses.replace(one, uid=f"{one.uid}{HOSTILE}", corpus=HOSTILE) for one in answers(0)]
    second = [dataclasses.replace(one, corpus="plain") for one in answers(0)]
    runs = [write_run(tmp_path / str(n), [*hostile, *second], name=f"{n}{HOSTILE}", checkpoint=HOSTILE) for n in (1, 2)]
    out = tmp_path / "page.html"
    assert command.main([*map(str, runs), "--out", str(out)]) == 0
    for path, pictures in ((out, 2), (runs[0] / "report.html", 1)):
        found = Elements(path.read_text())
        assert (found.names.count("script"), found.names.count("img")) == (1, pictures)
        assert not [name for name in found.attributes if name.startswith("on")]


def test_sections_of_many_languages_wait_to_be_opened(tmp_path: Path) -> None:
    listed = [
        Answer(f"u{number}", f"a{one}{two}", f"a{one}{two}", 1.0, 2, [("eng", 0.9), (f"a{one}{two}", 0.1)], 0.9)
        for one in "abcdefghijk"
        for two in "abcdefghij"
        for number in range(30)
    ]
    text = (write_run(tmp_path / "many", listed) / "report.html").read_text()
    assert text.count("<template>") == 110 and text.count("<article>") == 110 * 20
    assert "the surest 20 of 30" in text
    assert json.loads((tmp_path / "many" / "scores.json").read_text())["macro"]["top3"] == 100
