"""Benchmarks score by the paper's rules, say where they do not, and put its numbers beside ours."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mms_recipes import languages
from mms_recipes.evaluation import benchmarks
from mms_recipes.evaluation.benchmarks import PROTOCOLS
from mms_recipes.metrics import MACRO
from mms_recipes.report import beside
from mms_recipes.report.scores import UtteranceScore, comparison_table, write_report
from tests.unit.evaluations import utterance

PREPARED_RAW = {"settings": {"normalization": "none"}, "left_out": {}}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    benchmarks.paper_scores.cache_clear()


def corpus(folder: Path, langs: list[str], prepared: dict[str, Any] | None = None, split: str = "test") -> Path:
    """Write what is looked at of manifests: that they are there, and how they were prepared."""
    for lang in langs:
        (folder / lang).mkdir(parents=True)
        (folder / lang / f"{split}.tsv").write_text("/\n")
    if prepared is not None:
        splits = {lang: {"splits": {split: prepared.get(lang, PREPARED_RAW)}} for lang in langs}
        (folder / "prepared.json").write_text(json.dumps({"languages": splits}))
    return folder


# ---- languages and rates


@pytest.mark.parametrize(("name", "count"), [("fleurs102", 102), ("fleurs61", 61), ("fleurs54", 54)])
def test_languages_of_a_protocol_are_fleurs_s(name: str, count: int) -> None:
    langs = languages.resolve(PROTOCOLS[name].langs)
    assert len(langs) == count
    for lang in langs:  # as prepare_fleurs.py names the folders
        assert languages.from_fleurs(languages.language(lang).fleurs).id == lang


def test_rate_that_counts() -> None:
    for name in ("fleurs102", "fleurs61"):
        assert {PROTOCOLS[name].metric(lang) for lang in languages.resolve(PROTOCOLS[name].langs)} == {"cer"}
    of_54 = {lang: PROTOCOLS["fleurs54"].metric(lang) for lang in languages.resolve("fleurs54")}
    assert {lang for lang, metric in of_54.items() if metric == "cer"} == {"tha", "lao", "mya", "khm"}
    assert not {"cmn-script_simplified", "jpn", "yue-script_traditional"} & of_54.keys()


def test_a_protocol_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="protocol is 'fleurs'; choose fleurs102, fleurs61, fleurs54"):
        benchmarks.find("fleurs")


def test_missing_languages_are_named(tmp_path: Path) -> None:
    every = languages.resolve("fleurs54")
    data = corpus(tmp_path, [lang for lang in every if lang not in ("tha", "yor")])
    with pytest.raises(ValueError) as raised:
        benchmarks.choose_languages(PROTOCOLS["fleurs54"], data, "test", [])
    told = str(raised.value)
    assert told.startswith(f"FLEURS-54: {data} has no test.tsv of 2 of the 54 languages to score: tha, yor; ")
    assert "prepare them (tools/prepare_fleurs.py), or narrow it: langs=[amh,ara,asm," in told
    chosen = benchmarks.choose_languages(PROTOCOLS["fleurs54"], data, "test", ["eng", "fra"])
    assert chosen == ["eng", "fra"]
    with pytest.raises(
        ValueError, match=r"no dev\.tsv of 2 of the 2 languages to score: eng, fra; .* the right folder"
    ):
        benchmarks.choose_languages(PROTOCOLS["fleurs54"], data, "dev", ["eng", "fra"])


def test_a_language_that_the_protocol_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FLEURS-54 does not have ita, jpn; leave them out of langs"):
        benchmarks.choose_languages(PROTOCOLS["fleurs54"], tmp_path, "test", ["eng", "ita", "jpn"])


# ---- text rules


@pytest.mark.parametrize(
    ("lang", "text", "expected"),
    [  # what Whisper's own tests and paper (appendix C) promise
        ("eng", "Let's go, he's like that", "let us go he is like that"),
        ("eng", "Mr. Park visited Assoc. Prof. Kim Jr.", "mister park visited associate professor kim junior"),
        ("eng", "two hundred and thirty-six dollars", "$236"),
        ("eng", "mobilisation in 10km", "mobilization in 10 km"),
        ("eng", "uh, Monday [noise] (laughs)", "monday"),
        ("eng", "kinda the cause", "kinda the cause"),  # later whisper-normalizers know more contractions than Whisper
        ("fra", "L'été, c'est FINI!", "l été c est fini"),
        ("fra", "Vingt-cinq [bruit] <b>", "vingt cinq"),
        ("hin", "संस्कृति", "स स क त"),  # marks become spaces, as Whisper has it
        ("tha", "สวัสดี", "สว สด"),
    ],
)
def test_whispers_normaliser(lang: str, text: str, expected: str) -> None:
    pytest.importorskip("whisper_normalizer", reason="the extra [benchmark] is not installed: this test did NOT run")
    assert benchmarks.text_rules(PROTOCOLS["fleurs54"], lang)(text) == expected


def test_scores_under_whispers_rules() -> None:
    pytest.importorskip("whisper_normalizer", reason="the extra [benchmark] is not installed: this test did NOT run")
    score = utterance("eng", "e1", "It's 25 colours.", "it is twenty five colors now")
    assert score.words.errors == 6
    scored = benchmarks.rescore(score, PROTOCOLS["fleurs54"], count_space=False)
    assert (scored.reference, scored.hypothesis) == ("it is 25 colors", "it is 25 colors now")
    assert (scored.words.errors, scored.words.reference_length) == (1, 4)
    assert (scored.characters.errors, scored.characters.reference_length) == (3, 12)
    assert (scored.uid, scored.seconds) == (score.uid, score.seconds)
    assert benchmarks.rescore(score, PROTOCOLS["fleurs102"], count_space=False) is score


def test_whispers_normaliser_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarks._whisper.cache_clear()
    monkeypatch.setitem(sys.modules, "whisper_normalizer.basic", None)
    with pytest.raises(
        ValueError, match=r"fleurs54 is scored with Whisper's normaliser; pip install '\.\[benchmark\]'"
    ):
        benchmarks.text_rules(PROTOCOLS["fleurs54"], "eng")


# ---- what is otherwise than in the paper


@pytest.mark.parametrize("name", ["fleurs102", "fleurs54"])
def test_nothing_differs(tmp_path: Path, name: str) -> None:
    every = languages.resolve(PROTOCOLS[name].langs)
    data = corpus(tmp_path, every, {})
    assert benchmarks.differences(PROTOCOLS[name], data, "test", every, count_space=False) == []


def test_normalised_references_are_said(tmp_path: Path) -> None:
    every = languages.resolve("asr_fl102")
    normalised = {"settings": {"normalization": "mms-1"}, "left_out": {}}
    some = corpus(tmp_path / "some", every, {"eng": normalised, "fra": normalised})
    said = benchmarks.differences(PROTOCOLS["fleurs102"], some, "test", every, count_space=False)
    assert said == [
        "the references of eng, fra were normalised (mms-1), those of the paper were not; prepare_fleurs.py "
        "--normalization none keeps them"
    ]
    everything = corpus(tmp_path / "all", every, dict.fromkeys(every, normalised))
    (said_of_all,) = benchmarks.differences(PROTOCOLS["fleurs102"], everything, "test", every, count_space=False)
    assert said_of_all.startswith("the references were normalised (mms-1)")
    in_61 = languages.resolve("fleurs61")  # what the paper did to these is not known
    data = corpus(tmp_path / "dev", in_61, dict.fromkeys(in_61, normalised), split="dev")
    assert benchmarks.differences(PROTOCOLS["fleurs61"], data, "dev", in_61, count_space=False) == []
    assert "what was done to them" in PROTOCOLS["fleurs61"].unknown


def test_other_differences_are_said(tmp_path: Path) -> None:
    left_out = PREPARED_RAW | {"left_out": {"audio missing": ["a", "b"], "text empty": ["c"]}}
    data = corpus(tmp_path / "raw", ["eng", "fra"], {"eng": left_out}, split="train")
    protocol = PROTOCOLS["fleurs54"]
    assert benchmarks.differences(protocol, data, "train", ["eng", "fra"], count_space=True) == [
        "2 of its 54 languages were scored",
        "train was scored, the paper has dev and test",
        "spaces are counted in CER, which Whisper's rules do not do",
        "utterances were left out in preparation: eng 3",
    ]
    bare = corpus(tmp_path / "bare", ["eng"])
    assert benchmarks.differences(protocol, bare, "test", ["eng"], count_space=False)[1:] == [
        f"{bare / 'prepared.json'} does not tell how the references were normalised"
    ]


# ---- the paper's numbers


def test_papers_numbers_are_of_the_protocols() -> None:
    rows = benchmarks.paper_scores()
    for row in rows:
        protocol = PROTOCOLS[row["protocol"]]
        assert row["split"] in protocol.splits and row["source"].startswith("table")
        assert row["lang"] == MACRO or row["lang"] in languages.resolve(protocol.langs)
        assert 0 < float(row["rate"]) < 100
    keys = [(row["protocol"], row["split"], row["system"], row["lang"]) for row in rows]
    assert len(set(keys)) == len(keys)
    known = {key: float(row["rate"]) for key, row in zip(keys, rows, strict=True)}
    assert known["fleurs102", "test", "MMS FL-102 + LM", MACRO] == 6.3
    assert known["fleurs102", "dev", "MMS FL-102 + LM", "heb"] == 15.5
    assert known["fleurs54", "test", "Whisper large-v2", MACRO] == 44.3
    assert known["fleurs54", "test", "MMS L-1107 LSAH + LM", "kor"] == 40.1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("system\trate\n", r":1: header is \['system', 'rate'\], expected \['protocol', "),
        ("HEADER\nfleurs102\ttest\tMMS\teng\tfour\ttable 4\n", ":2: found .*'four'.*, expected protocol, split, "),
        ("HEADER\nfleurs99\ttest\tMMS\teng\t4.3\ttable 4\n", ":2: found .*'fleurs99'"),
        ("HEADER\nfleurs102\ttest\tMMS\n", ":2: found "),
    ],
)
def test_a_table_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str) -> None:
    table = tmp_path / "paper_scores.tsv"
    table.write_text(text.replace("HEADER", "\t".join(benchmarks.PAPER_COLUMNS)))
    monkeypatch.setattr(benchmarks, "PAPER_TABLE", table)
    benchmarks.paper_scores.cache_clear()
    with pytest.raises(ValueError, match=rf"paper_scores\.tsv{told}"):
        benchmarks.paper_scores()


def write(folder: Path, name: str, scores: list[UtteranceScore]) -> Path:
    """Score and write an evaluation as evaluate does; return its scores.json."""
    protocol = PROTOCOLS[name]
    langs = sorted({score.lang for score in scores})
    data = corpus(folder / "data", langs, {})
    write_report(
        folder,
        [benchmarks.rescore(score, protocol, count_space=False) for score in scores],
        {lang: sum(score.lang == lang for score in scores) for lang in langs},
        {"split": "test", "protocol": name},
        protocol.metric,
        benchmarks.document(protocol, data, "test", langs, count_space=False),
    )
    return folder / "scores.json"


def test_paper_stands_beside_ours(tmp_path: Path) -> None:
    scores = [utterance("eng", "e1", "a dog ran", "a dog run"), utterance("fra", "f1", "le chat", "le chat")]
    path = write(tmp_path, "fleurs102", scores)
    document = json.loads(path.read_text())
    assert [row["headline_metric"] for row in document["languages"].values()] == ["cer", "cer"]
    assert document["macro"]["headline"] == document["macro"]["cer"] == pytest.approx(100 / 7 / 2)
    assert {"system": "MMS FL-102 + LM", "lang": "eng", "rate": 4.3, "source": "table A3"} in document["benchmark"][
        "paper"
    ]
    assert {row["lang"] for row in document["benchmark"]["paper"]} == {"eng", MACRO}  # not of languages not scored
    lines = comparison_table({"mine": path}).splitlines()
    assert lines[0].endswith("WER mine  CER mine  paper: MMS FL-102 + LM")
    assert lines[2].split() == ["eng", "1", "0.00", "33.33", "14.29", "4.3"]
    assert lines[3].split() == ["fra", "1", "0.00", "0.00", "0.00"]  # what is not known stays empty
    assert lines[5].split() == ["macro", "of", "2/102", "2", "0.00", "16.67", "7.14"]  # the paper's is over 102
    assert lines[6:] == [
        "FLEURS-102 test, mean over 2 of 102 languages: CER in every language; texts: as the manifests have it",
        "not like for like with the paper's: 2 of its 102 languages were scored",
        "not known here: whether the paper's CER counts the spaces between words; which column of FLEURS its "
        "references are, raw_transcription or transcription; whether the manifests hold the whole of FLEURS",
        "mean of these rates: mine 7.14",
        "in the paper, over all 102 languages: MMS FL-102 + LM 6.3, USM-M 6.5, USM-M-adapter 6.7, USM 6.9, "
        "Maestro-U 8.7, w2v-BERT 12.3",
    ]


def test_runs_of_other_protocols_are_not_compared(tmp_path: Path) -> None:
    scores = [utterance("eng", "e1", "a dog ran", "a dog run")]
    paths = {name: write(tmp_path / name, name, scores) for name in ("fleurs102", "fleurs61")}
    with pytest.raises(ValueError, match="protocol: fleurs102 has fleurs102, fleurs61 fleurs61"):
        comparison_table(paths)


def test_mean_of_wer_and_cer_is_that_of_the_protocol(tmp_path: Path) -> None:
    pytest.importorskip("whisper_normalizer", reason="the extra [benchmark] is not installed: this test did NOT run")
    scores = [utterance("eng", "e1", "a dog ran off", "a dog run off"), utterance("tha", "t1", "กขคง", "กขค")]
    path = write(tmp_path, "fleurs54", scores)
    rows = json.loads(path.read_text())["languages"]
    assert (rows["eng"]["headline"], rows["tha"]["headline"]) == (25.0, 25.0)
    assert "mean of these rates: x 25.00" in comparison_table({"x": path})


def test_a_mean_over_all_languages_stands_beside_the_papers() -> None:
    protocol = PROTOCOLS["fleurs102"]
    every = languages.resolve(protocol.langs)
    whole = benchmarks.document(protocol, Path("nowhere"), "test", every, count_space=False)
    (column,) = beside.columns(whole)
    assert column.rates[MACRO] == 6.3 and len(column.rates) == 8
    assert beside.macro_label(whole) == MACRO and beside.mean_over(whole) == "mean over all 102 languages"
    assert beside.verdict({**whole, "differs": []}) == "scored as far as known by the paper's rules"
    other = benchmarks.document(PROTOCOLS["fleurs61"], Path("nowhere"), "dev", ["eng"], count_space=False)
    assert other["paper"] == [] and len(beside.lines(other, {"x": 1.0})) == 4  # the paper has changes only


def test_what_any_run_does_otherwise_is_said_of_all() -> None:
    one, two = ({"title": "FLEURS-102", "differs": differs} for differs in (["a"], ["a", "b"]))
    assert beside.common([one, two]) == {"title": "FLEURS-102", "differs": ["a", "b"]}
    assert beside.common([None, None]) is None
