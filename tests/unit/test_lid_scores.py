"""Scores of language identification by hand: nothing is lost, unknown languages are wrong, pairs and lengths."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

from mms_recipes.lid import protocol, scores
from mms_recipes.lid.scores import Answer, Crops
from mms_recipes.report import lid_figures, lid_files
from tests.unit.test_report_page import HOSTILE, Elements

SETTINGS = {"name": "lid", "split": "test", "checkpoint": "lid.pt", "classes": 4, "classes_of_the_model": 4}


def answer(lang: str, uid: str, given: str, rank: int | None, sure: float = 0.8, seconds: float = 2.0) -> Answer:
    return Answer(uid, lang, lang.partition("-")[0], seconds, rank, [(given, sure), ("ita", 1 - sure)], sure / 2 + 0.5)


ANSWERS = [
    answer("eng", "e1", "eng", 1),
    answer("eng", "e2", "eng", 1),
    answer("eng", "e3", "fra", 2),
    answer("fra", "f1", "eng", 4),
    answer("xho", "x1", "eng", None),
]


def test_rows() -> None:
    eng, fra, xho, macro, micro = scores.language_rows(ANSWERS)
    assert [round(eng[key], 2) for key in ("top1", "top3", "top5")] == [66.67, 100, 100]
    assert [fra[key] for key in ("top1", "top3", "top5")] == [0, 0, 100]
    assert [xho[key] for key in ("top1", "top5", "known")] == [0, 0, False]
    assert macro["top1"] == pytest.approx(200 / 9) and micro["top1"] == pytest.approx(40)
    assert eng["top1_low"] < eng["top1"] < eng["top1_high"] and macro["utterances"] == micro["utterances"] == 5
    assert macro["top1_low"] < macro["top1"] < macro["top1_high"]
    assert eng["hours"] == pytest.approx(6 / 3600)


def test_nothing_is_lost() -> None:
    expected = Counter(one.lang for one in ANSWERS)
    scores.check_counts(ANSWERS, expected)
    with pytest.raises(ValueError, match="no report is written:\n  eng: scored 3 utterances, expected 4 as in its"):
        scores.check_counts(ANSWERS, expected | {"eng": 4})
    with pytest.raises(ValueError, match="fra: scored 1 utterances, expected 0"):
        scores.check_counts(ANSWERS, {"eng": 3, "xho": 1})
    with pytest.raises(ValueError, match="no utterances"):
        scores.check_counts([], {})
    twice = [*in_corpus("a"), *in_corpus("b")]
    scores.check_counts(twice, {f"{corpus}/{lang}": count for corpus in "ab" for lang, count in expected.items()})
    with pytest.raises(ValueError, match=r"a/eng: scored 3 utterances, expected 0 .*\n  a/fra"):
        scores.check_counts(twice, {f"b/{lang}": count for lang, count in expected.items()})


def in_corpus(corpus: str) -> list[Answer]:
    return [dataclasses.replace(one, corpus=corpus) for one in ANSWERS]


def test_corpora() -> None:
    """Each as if it were alone, sums over all; one corpus without a name has no part of its own."""
    assert scores.corpus_scores(ANSWERS) == {}
    found = scores.corpus_scores([*in_corpus("a"), *in_corpus("b")[:3]])
    *rows, macro, micro = scores.language_rows(ANSWERS)
    assert found["a"] | {"calibration": 0} == {
        "languages": {row["lang"]: row for row in rows},
        "macro": macro,
        "micro": micro,
        "calibration": 0,
    }
    assert [found[name]["micro"]["utterances"] for name in ("a", "b")] == [5, 3]
    assert list(found["b"]["languages"]) == ["eng"] and found["b"]["macro"]["top1"] == pytest.approx(200 / 3)
    assert found["a"]["calibration"]["raw_error"] == scores.calibration_scores(ANSWERS)["raw_error"]


def test_confusions() -> None:
    pairs = scores.confusion_pairs(ANSWERS)
    assert {(row["lang"], row["answer"], row["utterances"], round(row["percent"])) for row in pairs} == {
        ("eng", "fra", 1, 33),
        ("fra", "eng", 1, 100),
        ("xho", "eng", 1, 100),
    }
    assert scores.answer_counts(ANSWERS)["eng"] == {"eng": 2, "fra": 1}


def test_lengths() -> None:
    row = scores.length_row(Crops(1.0, [ANSWERS[2], ANSWERS[0]], ANSWERS[:2]))
    assert (row["utterances"], row["languages"], row["crop_micro"], row["whole_micro"]) == (2, 1, 50, 100)
    assert scores.length_row(Crops(10.0, [], []))["crop_macro"] is None


def test_calibration() -> None:
    found = scores.calibration_scores(ANSWERS)
    assert found["calibrated_error"] == pytest.approx(40) and found["raw_error"] == pytest.approx(50)


def test_matrix() -> None:
    document = {
        "languages": {row["lang"]: row for row in scores.language_rows(ANSWERS)[:-2]},
        "answers": {"eng": {"eng": 2, "deu": 1}, "fra": {"eng": 1}, "xho": {"nld": 1}},
    }
    langs, columns, shares = lid_figures.matrix(document)
    assert (langs, columns) == (["eng", "fra", "xho"], ["eng", "fra", "xho", "other"])
    assert shares.sum(axis=1).tolist() == pytest.approx([100, 100, 100]) and shares[0, 3] == pytest.approx(100 / 3)


# ---- the paper's benchmark


def test_protocol() -> None:
    assert protocol.require(None) is None and protocol.require("fleurs_lid") is protocol.FLEURS
    with pytest.raises(ValueError, match="protocol=fleurs102 is of speech recognition; language identification has"):
        protocol.require("fleurs102")


def test_beside_the_paper(tmp_path: Path) -> None:
    found = protocol.document(tmp_path, "dev", ["eng", "fra"], 126, restricted=True)
    assert [row["system"] for row in found["paper"] if row["alike"]] == ["MMS 1B, 126 classes"]
    said = "; ".join(found["differs"])
    for part in ("2 of its 102 languages", "dev was scored, the paper has test", "restricted (lid.classes)"):
        assert part in said


# ---- files


def test_files(tmp_path: Path) -> None:
    """Every utterance has its line; names stay text; page.js finds what it looks for; the picture is inside."""
    hostile = HOSTILE.replace(" ", "")
    answers = [*ANSWERS, answer("eng", hostile, "fra", 3)]
    benchmark = protocol.document(tmp_path, "test", ["eng", "fra", "xho"], 4, restricted=False)
    lid_files.write(tmp_path, answers, [Crops(1.0, answers, answers)], SETTINGS | {"name": HOSTILE}, None, benchmark)
    lines = (tmp_path / "predictions.tsv").read_text().splitlines()
    assert len(lines) == 1 + len(answers)
    assert lines[1].split("\t") == ["eng", "e1", "eng", "2.000", "1", '[["eng", 0.8], ["ita", 0.2]]']
    page = (tmp_path / "report.html").read_text()
    found = Elements(page)
    assert (found.names.count("script"), found.names.count("img")) == (1, 1)
    assert not [name for name in found.attributes if name.startswith("on")]
    script = (Path(lid_files.__file__).with_name("page.js")).read_text()
    for wanted in re.findall(r'getElementById\("([\w-]+)"\)', script):
        assert f'id="{wanted}"' in page
    assert "default-src 'none'" in page and "data:image/png;base64," in page
    assert "not a class of this model" in page and "MMS 1B, 4,017 classes" in page
    assert len((tmp_path / "scores.tsv").read_text().splitlines()) == 1 + 3 + 2
