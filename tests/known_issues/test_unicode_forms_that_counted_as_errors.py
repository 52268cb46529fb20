"""A perfect Thai hypothesis had a CER of 67 %: benchmarks compared composed letters with letters taken apart."""

import dataclasses
import json
import random
import unicodedata
from pathlib import Path

import jiwer
import pytest

from mms_recipes import metrics, unicode_forms
from mms_recipes.decoding import word_times
from mms_recipes.decoding.word_times import Word
from mms_recipes.evaluation import evaluator
from mms_recipes.report.reading import read_scores
from mms_recipes.report.shards import Shard
from mms_recipes.text import normalize
from tests.known_issues import commands
from tests.known_issues.lab import Lab
from tests.unit.evaluations import utterance

SARA_AM, APART = "น้ำ ทำ คำ อำนาจ", "น้ํา ทํา คําอํานาจ".replace("คํา", "คํา ")
REFERENCES = {
    "tha": SARA_AM,
    "lao": "ນ້ຳ ຄຳ",
    "vie": "tiếng việt",
    "yor": "ẹ̀kọ́ ọ̀rọ̀",
    "kor": "한국어 말",
    "hin": "\u0958\u0932\u092e \u0921\u093c",  # composed and not
    "ben": "\u09dc\u09df \u09a1\u09bc",
    "pan": "\u0a59\u0a5c",
    "asm": "\u09dd",
    "ory": "\u0b5c\u0b5d",
    "eng": "ﬁnd ﬁsh five ofﬁce",
    "jpn": "ｶﾞｷﾞ ＡＢ",
    "ara": "ﻻ ﷺ ﺑﻴﺖ",
}


@pytest.mark.parametrize("lang", REFERENCES)
@pytest.mark.parametrize("form", ["as it is", "NFC", "NFD", "NFKC", "NFKD"])
def test_a_perfect_hypothesis_has_no_error_in_any_form(lang: str, form: str) -> None:
    reference = REFERENCES[lang]
    if form != "as it is":
        reference = unicodedata.normalize(form, reference)  # type: ignore[arg-type]
    for written in ("NFC", "NFD", "NFKC", "NFKD"):
        hypothesis = unicodedata.normalize(written, reference)  # type: ignore[arg-type]
        for counted in (metrics.word_errors(reference, hypothesis), metrics.character_errors(reference, hypothesis)):
            assert counted.errors == 0
        assert unicode_forms.in_form_of(reference, hypothesis) == reference
        assert metrics.character_errors(reference, hypothesis, count_space=True).reference_length == len(reference)


@pytest.mark.parametrize("lang", ["tha", "lao", "vie", "yor", "kor", "hin", "ben"])
def test_what_a_perfect_model_writes_has_no_error(lang: str) -> None:
    for form in ("NFC", "NFD"):
        reference = unicodedata.normalize(form, REFERENCES[lang])  # type: ignore[arg-type]
        assert metrics.character_errors(reference, normalize(reference, lang)).errors == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        (SARA_AM, "นา ทํา คํา อํานาจ", 2),  # a tone mark too few, and another vowel
        ("tiếng", "tiêng", 1),
        (unicodedata.normalize("NFD", "tiếng"), "tiêng", 1),
        ("ﬁx", "fax", 2),
        ("한국", unicodedata.normalize("NFD", "한구"), 1),
        ("a", "b", 1),
        ("ﬁ", "", 1),
        ("", "ﬁ", 1),
    ],
)
def test_what_is_wrong_stays_wrong(reference: str, hypothesis: str, errors: int) -> None:
    assert metrics.character_errors(reference, hypothesis).errors == errors


def test_texts_of_one_form_are_counted_as_by_jiwer() -> None:
    """Whatever that form is, also with sara am composed and letters outside NFKC on both sides."""
    rng = random.Random(5)
    letters = "abế ẹ̀ọ́ำ้น한ก็ก\u0958ｆ'"
    for number in range(400):
        form = ("NFC", "NFD", "NFKC", "NFKD")[number % 4]
        pair = ["".join(rng.choice(letters) for _ in range(rng.randrange(1, 12))) for _ in range(2)]
        reference, hypothesis = (" ".join(unicodedata.normalize(form, text).split()) for text in pair)  # type: ignore[arg-type]
        if not reference:
            continue
        ours = metrics.character_errors(reference, hypothesis, count_space=True)
        assert ours.rate == pytest.approx(100 * jiwer.cer(reference, hypothesis)), (reference, hypothesis)
        assert metrics.word_errors(reference, hypothesis).rate == pytest.approx(100 * jiwer.wer(reference, hypothesis))


def test_the_form_of_the_hypotheses_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    scores = [
        dataclasses.replace(utterance("tha", "t1", SARA_AM, SARA_AM), respelt=True),
        utterance("tha", "t2", "นา", "นา"),
    ]
    for protocol in ("fleurs102", None):
        settings = {"protocol": protocol, "data": str(tmp_path), "split": "test", "count_space": False, "name": "x"}
        evaluator.write(tmp_path / "out", Shard(settings, {"tha": 2}, scores, []))
        document = read_scores(tmp_path / "out/scores.json")
        assert document["settings"][evaluator.RESPELT] == {"tha": 1}
        assert "1 of 2 hypotheses were in another Unicode form" in caplog.text
    evaluator.write(tmp_path / "out", Shard(settings | {"protocol": "fleurs102"}, {"tha": 2}, scores, []))
    differs = read_scores(tmp_path / "out/scores.json")["benchmark"]["differs"]
    assert any("Unicode form" in one and "tha 1" in one for one in differs)


def test_evaluate_writes_hypotheses_in_the_form_of_the_references(tiny: Lab, tmp_path: Path) -> None:
    """Of one model, on references composed and taken apart: no hypothesis is of another form than its reference."""
    data = tiny.copy_data(tmp_path / "data", "eng")
    out = tmp_path / "out"
    command = ("evaluate", f"checkpoint={tiny.adapters}", f"data={data}", "langs=[eng]", f"out={out}")
    assert commands.run(*command).code == 0
    rows = (out / "hypotheses.tsv").read_text().splitlines()[1:]
    made = {row.split("\t")[0]: row.split("\t")[3] for row in rows}
    assert any(made.values())
    wide = {uid: "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in text) for uid, text in made.items()}
    uids = (data / "eng/test.uid").read_text().split()
    (data / "eng/test.wrd").write_text("".join(f"{wide[uid] or 'ａ'}\n" for uid in uids))  # full-width letters
    ended = commands.run(*command)
    assert ended.code == 0 and "Unicode form" in ended.output, ended.output
    document = json.loads((out / "scores.json").read_text())
    assert document["languages"]["eng"]["character_substitutions"] == 0
    assert document["settings"][evaluator.RESPELT]["eng"] == sum(map(bool, made.values()))


def test_transcripts_are_written_as_people_type() -> None:
    assert unicode_forms.composed(APART) == SARA_AM
    assert unicode_forms.composed("ນ້ໍາ") == "ນ້ຳ"
    assert unicode_forms.composed("e\u0301") == "é"
    items = [Word(letter, place, place + 1, 0.9 - place / 10) for place, letter in enumerate("น้ํา")]
    assert word_times.composed(items) == [*items[:2], Word("ำ", 2, 4, items[3].score)]
    assert word_times.composed([Word("ทํา", 0, 1, 0.5), Word("x", 1, 2, 0.5)])[0].text == "ทำ"
