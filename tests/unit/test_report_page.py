"""The page without a browser: what is on it, that texts stay texts, its size, and the command."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mms_recipes.report import __main__ as command
from mms_recipes.report import charts, utterances
from mms_recipes.report.runs import Word, read_runs
from tests.unit.evaluations import UTTERANCES, utterance, write_benchmark, write_run, write_runs

HOSTILE = "</script><script>alert(1)</script>&\"'<img/src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Collect the names of elements and of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes |= {name for name, _ in attrs}


def page(folder: Path, *arguments: object) -> str:
    out = folder / "page.html"
    assert command.main([*map(str, arguments), "--out", str(out)]) == 0
    return out.read_text(encoding="utf-8")


def test_what_was_scored_is_said(tmp_path: Path) -> None:
    text = page(tmp_path, *write_runs(tmp_path))
    for said in ("dense, LSAH: error rates", "mms-1", "7 (0.00 h) of 4 languages", "not counted in CER", "Japanese"):
        assert said in text
    assert text.count("<article>") == len(UTTERANCES)


def test_texts_stay_texts(tmp_path: Path) -> None:
    """Names, ids, references and hypotheses are escaped wherever they stand; no attribute runs code."""
    scores = [utterance(lang, uid, reference, made) for lang, uid, reference, made, _ in UTTERANCES]
    hostile = utterance("eng", HOSTILE.replace(" ", ""), f"the {HOSTILE}", HOSTILE)
    plain = Elements(page(tmp_path, write_run(tmp_path / "plain", [*scores, utterance("eng", "x", "the a a", "a a")])))
    run = write_run(tmp_path / "hostile", [*scores, hostile], name=HOSTILE, checkpoint=HOSTILE)
    text = page(tmp_path, run)
    found = Elements(text)
    assert (found.names.count("script"), found.names.count("style"), "img" in found.names) == (1, 1, False)
    assert set(found.names) == set(plain.names)
    assert found.attributes == plain.attributes and not [name for name in found.attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)" in text


def test_nothing_points_outside(tmp_path: Path) -> None:
    text = page(tmp_path, *write_runs(tmp_path))
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|url\(|@import|<link|srcset|\bsrc=", text)


def test_worst_utterances_of_each_language(tmp_path: Path) -> None:
    runs = write_runs(tmp_path)
    shown = re.findall(r"<article><header><code>(\w+)", page(tmp_path, *runs, "--worst", 1))
    assert sorted(shown) == ["a1", "e3", "f1", "j1"]
    assert "e2" not in re.findall(r"<article><header><code>(\w+)", page(tmp_path, *runs, "--worst", 9))  # no errors


def test_columns_of_several_runs() -> None:
    columns = list(utterances.align_all(["a", "b"], [["a", "x", "b"], ["b"], ["y", "z", "a", "c"]]))
    assert [column.reference for column in columns] == ["", "", "a", "", "b"]
    shown = [[cell and (cell.operation[0], cell.hypothesis) for cell in column.cells] for column in columns]
    assert shown == [
        [None, None, ("i", "y")],
        [None, None, ("i", "z")],
        [("e", "a"), ("d", ""), ("e", "a")],
        [("i", "x"), None, None],
        [("e", "b"), ("e", "b"), ("s", "c")],
    ]
    assert list(utterances.align_all([], [[], []])) == []


def test_words_of_a_hypothesis_are_found_by_their_order() -> None:
    words = [Word("the", 0.0, 0.5, 0.9), Word("cat", 0.5, 1.0, 0.4)]
    assert utterances.match_words(["the", "cat"], words, by_characters=False) == words
    letters = [Word("ね", 0.0, 0.1, 0.9), Word("こが", 0.1, 0.3, 0.4)]  # a unit may be several letters
    assert utterances.match_words(["ね", " ", "こ", "が"], letters, by_characters=True) == [
        letters[0], None, letters[1], letters[1],
    ]  # fmt: skip
    # what a benchmark's text rules changed is not guessed
    assert utterances.match_words(["the", "cats"], words, by_characters=False) == [None, None]
    assert utterances.match_words(["the"], [], by_characters=False) == [None]


def test_words_with_their_confidence(tmp_path: Path) -> None:
    scores = [
        utterance("eng", "e1", "the cat sat", "the cat sit", sure=[0.95, 0.7, 0.2]),
        utterance("eng", "e2", "a dog", "", sure=[]),
    ]
    text = page(tmp_path, write_run(tmp_path / "run", scores))
    assert '<i title="0.95, 0.00 to 0.50 s">the</i>' in text
    assert '<i class="c2" title="0.70, 0.50 to 1.00 s">cat</i>' in text
    assert '<i class="s c1" title="0.20, 1.00 to 1.50 s">s<u>i</u>t</i>' in text
    assert "1/3 words, 1/9 letters, score 0.62" in text
    assert '<article data-order="1 0.6167">' in text and '<article data-order="2 2">' in text
    assert "below 0.8" in text and "least sure first: run" in text
    plain = page(tmp_path, write_run(tmp_path / "plain", [utterance("eng", "e1", "the cat", "the cat")]))
    assert "below 0.8" not in plain and 'class="order"' not in plain


def test_a_confidence_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [utterance("eng", "e1", "the cat", "the cat", sure=[0.9, 0.8])])
    hypotheses = (run / "hypotheses.tsv").read_text()
    (run / "hypotheses.tsv").write_text(hypotheses.replace("0.8500", "much"))
    assert command.main([str(run)]) == 1
    told = "hypotheses.tsv:2: the confidence is 'much', not a number from 0 to 1; evaluate again"
    assert told in capsys.readouterr().err
    (run / "hypotheses.tsv").write_text(hypotheses)
    with (run / "words.tsv").open("a") as file:
        file.write("e1\teng\tcat\t0.5\tlate\t0.5\n")
    assert command.main([str(run)]) == 1
    assert "words.tsv:4: found ['e1', 'eng', 'cat', '0.5', 'late', '0.5'], expected uid, lang, word, start, end" in (
        capsys.readouterr().err
    )


def test_a_benchmark_is_told_on_the_page(tmp_path: Path) -> None:
    text = page(tmp_path, write_benchmark(tmp_path / "run"))
    for said in (
        "FLEURS-102 test: CER in every language.",
        "Not like for like with the paper&#x27;s: 3 of its 102 languages were scored",
        "Not known here: whether the paper&#x27;s CER counts the spaces",
        "mean over 3 of 102 languages",
        "Mean over all 102 languages: CER in every language",
        "<td>6.9 %</td><td>USM</td>",
        '<td class="paper" data-value="4.3">4.3</td>',
        '<td class="paper" data-value=""></td>',
        "English, paper: MMS FL-102 + LM 4.3",
    ):
        assert said in text, said
    assert text.count('class="al"') == 2  # a language of words is laid out by words, though CER counts
    assert "paper" not in page(tmp_path, write_runs(tmp_path)[0]).partition("<body>")[2].partition("<script>")[0]


def test_colours_do_not_cut_letters_from_their_marks() -> None:
    assert utterances.clusters("এঁকে") == ["এঁ", "কে"]
    assert utterances.clusters("ক্ষমা") == ["ক্ষ", "মা"]
    assert utterances.clusters("e\u0301te") == ["e\u0301", "t", "e"]
    assert utterances.visible("\u0301") == "\u25cc\u0301"


@pytest.mark.parametrize(("highest", "end"), [(0, 1), (0.4, 1), (4.2, 5), (12, 15), (74.9, 80), (100, 100), (900, 160)])
def test_axes_end_at_round_numbers(highest: float, end: float) -> None:
    assert charts.full_scale([0.0, highest]) == end


def test_eight_languages_are_less_than_a_megabyte(tmp_path: Path) -> None:
    langs = ("ben", "eng", "fra", "ita", "jpn", "kor", "rus", "spa")
    scores = [
        utterance(
            lang, f"{lang}_test_{number:018}", "five green apples fell from trees", "fife gren appls fell of tree"
        )
        for lang in langs
        for number in range(65)
    ]
    runs = [write_run(tmp_path / name, scores) for name in ("dense", "LSAH")]
    text = page(tmp_path, *runs)
    assert text.count("<article>") == 8 * 65
    assert len(text.encode()) < 1_000_000


def test_the_page_of_one_run_lies_beside_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense, _ = write_runs(tmp_path)
    assert command.main([str(dense)]) == 0
    assert (dense / "report.html").is_file()
    assert capsys.readouterr().out.startswith(f"{dense / 'report.html'}: 0.0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--embed-audio", "3"], "--embed-audio needs --audio DATA"),
        (["RUN", "--audio", "nowhere"], "nowhere: no such folder"),
        (["nowhere"], "no scores; run mms_recipes.evaluate first"),
    ],
)
def test_a_wrong_command(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dense, _ = write_runs(tmp_path)
    assert command.main([argument.replace("RUN", str(dense)) for argument in arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (dense / "report.html").exists()


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra [plots] is not installed: this test did NOT run")
    page(tmp_path, *write_runs(tmp_path), "--png", tmp_path / "png")
    for name in ("wer.png", "cer.png"):
        assert (tmp_path / "png" / name).read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "png").iterdir())) == 2


def test_runs_are_one_after_another(tmp_path: Path) -> None:
    runs = read_runs(write_runs(tmp_path))
    assert utterances.chosen(runs, "eng", None) == [2, 0, 1]
    assert utterances.chosen(runs[:1], "eng", 1) == [2]
