"""The report proves its counts, writes all or nothing, and can be read: by programs and in a terminal."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from mms_recipes.report.scores import UtteranceScore, comparison_table, write_report
from tests.unit.evaluations import utterance

SETTINGS = {"checkpoint": "runs/dense/best.pt", "split": "test", "normalization": "mms-1", "count_space": False}


SCORES = [
    utterance("fra", "f1", "le chat dort", "le chat mort"),
    utterance("eng", "e1", "the cat sat on the mat", "the cat sit on mat"),
    utterance("eng", "e2", "a dog", "a dog"),
    utterance("jpn", "j1", "ねこがすき", "ねこすきだ"),
]
EXPECTED = {"eng": 2, "fra": 1, "jpn": 1}


def write(folder: Path, scores: list[UtteranceScore] = SCORES, **settings: Any) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for score in scores:
        counts[score.lang] = counts.get(score.lang, 0) + 1
    write_report(folder, scores, counts, SETTINGS | settings)
    document: dict[str, Any] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return document


def table(path: Path) -> list[dict[str, str]]:
    header, *lines = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_scores_of_a_language(tmp_path: Path) -> None:
    english = write(tmp_path)["languages"]["eng"]
    assert (english["utterances"], english["reference_words"], english["reference_characters"]) == (2, 8, 21)
    assert english["hours"] == pytest.approx(2 * 1.8 / 3600)
    assert [english[f"word_{kind}"] for kind in ("substitutions", "deletions", "insertions")] == [1, 1, 0]
    assert [english[f"character_{kind}"] for kind in ("substitutions", "deletions", "insertions")] == [1, 3, 0]
    assert english["wer"] == pytest.approx(100 * 2 / 8)
    assert english["cer"] == pytest.approx(100 * 4 / 21)
    assert english["wer_low"] <= english["wer"] <= english["wer_high"]


def test_headline_is_cer_in_scripts_without_spaces_and_wer_elsewhere(tmp_path: Path) -> None:
    rows = write(tmp_path)["languages"]
    assert (rows["jpn"]["headline_metric"], rows["jpn"]["headline"]) == ("cer", rows["jpn"]["cer"])
    assert (rows["eng"]["headline_metric"], rows["eng"]["headline"]) == ("wer", rows["eng"]["wer"])
    assert rows["jpn"]["wer"] != rows["jpn"]["cer"]


def test_macro_is_the_mean_over_languages_and_comes_last(tmp_path: Path) -> None:
    document = write(tmp_path)
    rows = document["languages"].values()
    for metric in ("wer", "cer", "headline"):
        assert document["macro"][metric] == pytest.approx(sum(row[metric] for row in rows) / 3)
    assert (document["macro"]["utterances"], document["macro"]["hours"]) == (4, pytest.approx(4 * 1.8 / 3600))
    assert [row["lang"] for row in table(tmp_path / "scores.tsv")] == ["eng", "fra", "jpn", "macro"]


def test_tsv_says_what_json_says(tmp_path: Path) -> None:
    document = write(tmp_path)
    rows = [*document["languages"].values(), document["macro"]]
    for cells, row in zip(table(tmp_path / "scores.tsv"), rows, strict=True):
        assert list(cells) == list(document["languages"]["eng"])
        for key, cell in cells.items():
            value = row.get(key, "")
            assert cell == (f"{value:.4f}" if isinstance(value, float) else str(value))


def test_settings_are_kept(tmp_path: Path) -> None:
    assert write(tmp_path)["settings"] == SETTINGS


def test_intervals_do_not_depend_on_the_order_nor_on_other_languages(tmp_path: Path) -> None:
    rng = random.Random(0)
    scores = [utterance("eng", f"e{i}", "a b c d", rng.choice(["a b c d", "a b", "x b c d"])) for i in range(30)]
    alone = write(tmp_path / "alone", scores)["languages"]["eng"]
    beside = write(tmp_path / "beside", [*SCORES[:1], *scores])["languages"]["eng"]
    assert alone == beside
    assert alone["wer_low"] < alone["wer"] < alone["wer_high"]


def test_macro_interval_is_narrower_than_that_of_its_languages(tmp_path: Path) -> None:
    rng = random.Random(0)
    scores = [
        utterance(lang, f"{i}", "a b c d", rng.choice(["a b c d", "a b", "x b c d"]))
        for lang in ("deu", "eng", "fra", "ita")
        for i in range(50)
    ]
    document = write(tmp_path, scores)
    widths = [row["wer_high"] - row["wer_low"] for row in document["languages"].values()]
    assert document["macro"]["wer_high"] - document["macro"]["wer_low"] < 0.75 * min(widths)


def test_hypotheses_of_all_utterances(tmp_path: Path) -> None:
    write(tmp_path, [*SCORES, utterance("fra", "f0", "un  mot", "un\tmot")])
    rows = table(tmp_path / "hypotheses.tsv")
    assert [(row["lang"], row["uid"]) for row in rows] == [
        ("eng", "e1"),
        ("eng", "e2"),
        ("fra", "f0"),
        ("fra", "f1"),
        ("jpn", "j1"),
    ]
    assert rows[0] == {
        "uid": "e1",
        "lang": "eng",
        "reference": "the cat sat on the mat",
        "hypothesis": "the cat sit on mat",
        "word_errors": "2",
        "character_errors": "4",
    }
    assert rows[2]["hypothesis"] == "un mot"


@pytest.mark.parametrize(
    ("scores", "expected", "message"),
    [
        (SCORES[1:], EXPECTED, "fra: scored 0 utterances, expected 1 as in its manifest"),
        (SCORES, EXPECTED | {"eng": 2_669}, "eng: scored 2 utterances, expected 2,669 as in its manifest"),
        (SCORES, EXPECTED | {"deu": 5}, "deu: scored 0 utterances, expected 5 as in its manifest"),
        (SCORES, {"eng": 2, "fra": 1}, "jpn: scored 1 utterances, expected 0 as in its manifest"),
        ([*SCORES, SCORES[1]], EXPECTED | {"eng": 3}, "eng: utterance 'e1' was scored 2 times"),
        ([SCORES[1], SCORES[1]], {"eng": 2}, "eng: utterance 'e1' was scored 2 times"),
        ([utterance("eng", "e1", "", "a")], {"eng": 1}, "eng: no reference has a word"),
        ([], {}, "no language to score"),
    ],
)
def test_no_number_is_written_when_counts_differ(
    tmp_path: Path, scores: list[UtteranceScore], expected: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "report", scores, expected, SETTINGS)
    assert not (tmp_path / "report").exists()


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"deu: scored 0(?s:.)*eng: scored 2"):
        write_report(tmp_path, SCORES, EXPECTED | {"deu": 5, "eng": 3}, SETTINGS)


def test_a_report_that_cannot_be_written_leaves_the_last_one_whole(tmp_path: Path) -> None:
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError):
        write_report(tmp_path, SCORES[:1], {"fra": 1}, SETTINGS | {"checkpoint": object()})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert set(before) == {"scores.tsv", "scores.json", "hypotheses.tsv", "worst_utterances.txt"}


def test_a_failing_disk_leaves_the_last_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_text = Path.write_text

    def full_disk(path: Path, text: str, **options: Any) -> int:
        if "scores.json" in path.name:
            write_text(path, text[:10], **options)
            raise OSError("No space left on device")
        return write_text(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(tmp_path, SCORES[:1], {"fra": 1}, SETTINGS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_worst_utterances_are_aligned_by_words(tmp_path: Path) -> None:
    write(tmp_path, SCORES[1:3])
    assert (tmp_path / "worst_utterances.txt").read_text(encoding="utf-8").splitlines() == [
        "== eng: 1 of 2 utterances have errors in words; the worst 1 ==",
        "",
        "e1: 2 errors in 6 words",
        "REF: the cat sat on the mat",
        "HYP: the cat sit on *   mat",
        "ERR:         S      D",
        "",
    ]


def test_scripts_without_spaces_are_aligned_by_characters_in_wide_columns(tmp_path: Path) -> None:
    write(tmp_path, SCORES[3:])
    assert (tmp_path / "worst_utterances.txt").read_text(encoding="utf-8").splitlines()[2:6] == [
        "j1: 2 errors in 5 characters",
        "REF: ね こ が す き *",
        "HYP: ね こ *  す き だ",
        "ERR:       D        I",
    ]


def test_worst_utterances_are_aligned_by_what_the_benchmark_counts(tmp_path: Path) -> None:
    write_report(tmp_path, SCORES[1:3], {"eng": 2}, SETTINGS, headline=lambda lang: "cer")
    lines = (tmp_path / "worst_utterances.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "== eng: 1 of 2 utterances have errors in characters; the worst 1 =="
    assert lines[3].startswith("REF: t h e c a t")


def test_worst_utterances_are_the_20_with_most_errors(tmp_path: Path) -> None:
    scores = [utterance("eng", f"u{i:02}", "a " * 40, "a " * (40 - i)) for i in range(30)]
    write(tmp_path, [*scores, *SCORES[:1]])
    lines = (tmp_path / "worst_utterances.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "== eng: 29 of 30 utterances have errors in words; the worst 20 =="
    assert [line[:3] for line in lines if line.startswith("u")] == [f"u{i:02}" for i in range(29, 9, -1)]
    assert "== fra: 1 of 1 utterances have errors in words; the worst 1 ==" in lines


def test_comparison_table(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    write(tmp_path / "lsah", [utterance(s.lang, s.uid, s.reference, s.reference, seconds=s.seconds) for s in SCORES])
    paths = {name: tmp_path / name.lower() / "scores.json" for name in ("dense", "LSAH")}
    assert comparison_table(paths).splitlines() == [
        "language  utterances  hours  WER dense  CER dense  WER LSAH  CER LSAH",
        "--------  ----------  -----  ---------  ---------  --------  --------",
        "eng                2   0.00      25.00      19.05      0.00      0.00",
        "fra                1   0.00      33.33      10.00      0.00      0.00",
        "jpn                1   0.00     100.00      40.00      0.00      0.00",
        "--------  ----------  -----  ---------  ---------  --------  --------",
        "macro              4   0.00      52.78      23.02      0.00      0.00",
    ]


def test_runs_over_other_utterances_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "dense")
    write(tmp_path / "lsah", [*SCORES[:3], utterance("fra", "f2", "oui", "oui")])
    paths = {name: tmp_path / name / "scores.json" for name in ("dense", "lsah")}
    with pytest.raises(
        ValueError, match="fra: dense scored 1 utterances, lsah 2\n  jpn: dense scored 1 utterances, lsah 0"
    ):
        comparison_table(paths)


@pytest.mark.parametrize(("key", "value"), [("count_space", True), ("normalization", "none"), ("split", "dev")])
def test_runs_under_other_rules_are_not_compared(tmp_path: Path, key: str, value: object) -> None:
    write(tmp_path / "dense")
    write(tmp_path / "lsah", **{key: value})
    paths = {name: tmp_path / name / "scores.json" for name in ("dense", "lsah")}
    with pytest.raises(ValueError, match=f"{key}: dense has {SETTINGS[key]}, lsah {value}"):
        comparison_table(paths)


def test_a_run_without_scores_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no scores; run mms_recipes"):
        comparison_table({"dense": tmp_path / "scores.json"})
