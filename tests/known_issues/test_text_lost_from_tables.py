"""Text behind a comma or a tab was lost, another column became the text, a quote swallowed rows: all without a word."""

from pathlib import Path

import pytest

from tests.known_issues import commands
from tests.known_issues.commands import Ended
from tests.known_issues.tables import prepare, recordings, words

__all__ = ["recordings"]


def refused(ended: Ended, *facts: str) -> None:
    assert ended.is_refused(), ended.output
    for fact in facts:
        assert fact in ended.output, ended.output


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("t.csv", "path,text\na.wav,as we hurried on, the rain began\n", ["t.csv:2", "3 cells for 2 columns", ".tsv"]),
        ("t.tsv", "path\ttext\na.wav\tfirst half\tsecond half\n", ["t.tsv:2", "3 cells for 2 columns", "tab"]),
        ("t.tsv", "path\ttext\nb.wav\tfine\na.wav\n", ["t.tsv:3", "1 cells for 2 columns"]),
        ("t.csv", "path;text\na.wav;one; two\n", ["t.csv:2", "3 cells for 2 columns", "semicolons"]),
        ("t.csv", 'path,text\na.wav, "one, two"\n', ["t.csv:2", "3 cells for 2 columns"]),
        ("t.csv", "a.wav,one, two\n", ["t.csv:1", "of 3", "path,text"]),
        ("t.tsv", "a.wav\tone\nb.wav\tone\ttwo\n", ["t.tsv:2", "3 cells"]),
        ("t.tsv", "path\ttext\na.wav\tone\npath\ttext\nb.wav\ttwo\n", ["t.tsv:3", "header a second time"]),
    ],
)
def test_rows_that_do_not_fit(recordings: Path, name: str, content: str, facts: list[str]) -> None:
    refused(prepare(recordings, name, content), *facts)
    assert not (recordings / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("t.csv", 'path,text\na.wav,"one\nb.wav,two\n', ["t.csv:2", "does not end"]),
        ("t.csv", 'path,text\na.wav,"one\nb.wav,two\nc.wav,three"\n', ["t.csv:2", "2 line ends"]),
        ("t.csv", 'path,text\na.wav,"one" two\n', ["t.csv:2", '""']),
        ("t.tsv", "path\ttext\na.wav\ton\0e\n", ["t.tsv:2", "NUL", "UTF-8"]),
    ],
)
def test_quotes_and_bytes_that_swallow_rows(recordings: Path, name: str, content: str, facts: list[str]) -> None:
    refused(prepare(recordings, name, content), *facts)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ("one\ta.wav\n", ["t.tsv:1", "no audio file", "--text-column", "path<tab>text"]),
        ("a.wav\t1.25\tone\n", ["t.tsv:1", "of 3", "path<tab>text"]),
        ("a.wav\t1.25\nb.wav\t2.5\n", ["t.tsv:1", "no text"]),
        ("a.wav\tb.wav\nb.wav\ta.wav\n", ["t.tsv:1", "no text"]),
        ("id\tutterance\na.wav\tone\n", ["t.tsv:1", "--path-column", "transcription"]),
        ("path\tsentence\ttext\na.wav\tone\ttwo\n", ["t.tsv:1", "sentence, text", "--text-column"]),
        ("path\ttext\tText\na.wav\tone\ttwo\n", ["t.tsv:1", "text, Text", "--text-column"]),
        ("path\tfile\ttext\na.wav\tb.wav\ttwo\n", ["t.tsv:1", "path, file", "--path-column"]),
    ],
)
def test_columns_that_are_not_certain(recordings: Path, content: str, facts: list[str]) -> None:
    refused(prepare(recordings, "t.tsv", content), *facts)


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("t.tsv", "path\tsentence\ttext\na.wav\tone\ttwo\n", ["--text-column", "sentence"], "column 'sentence'"),
        ("t.tsv", "clip\twords\na.wav\tone\n", ["--path-column", "CLIP ", "--text-column", "Words"], "column 'words'"),
        ("t.csv", "\ufeff Path , Sentence \na.wav,one\n", [], "column 'Sentence'"),
        ("t.csv", "path;text\na.wav;one\n", [], "semicolons"),
        ("t.csv", 'path,text\n\na.wav,"one"\n\n', [], "column 'text'"),
        ("t.tsv", "a.wav\tone\n", [], "no header"),
        ("t.tsv", "path\ttext\ra.wav\tone\r", [], "column 'text'"),
    ],
)
def test_columns_by_name(recordings: Path, name: str, content: str, options: list[str], said: str) -> None:
    ended = prepare(recordings, name, content, *options)
    assert ended.code == 0, ended.output
    assert said in ended.output
    assert words(recordings) == ["one"]


def test_a_column_that_was_named_and_is_not_there(recordings: Path) -> None:
    refused(prepare(recordings, "t.tsv", "path\ttext\na.wav\tone\n", "--text-column", "words"), "t.tsv:1", "'words'")


def test_empty_texts_are_counted_and_named(recordings: Path) -> None:
    ended = prepare(recordings, "t.tsv", "path\ttext\na.wav\t\nb.wav\tone\nc.wav\t...\n")
    assert ended.code == 0, ended.output
    assert "t.tsv:2" in ended.output and "t.tsv:4" in ended.output
    assert words(recordings) == ["one"]


def test_nothing_is_left(recordings: Path) -> None:
    refused(prepare(recordings, "t.tsv", "path\ttext\n"), "t.tsv", "no rows")
    for options in ([], ["--allow-missing"]):
        ended = prepare(recordings, "t.tsv", "path\ttext\na.wav\t...\nnone.wav\tone\n", *options)
        refused(ended, "no utterance is left of train", "t.tsv:2", "t.tsv:3")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_tables_that_are_not_utf8(recordings: Path, name: str) -> None:
    content = "path{}text\na.wav{}eins\nb.wav{}öfter\n".format(*3 * [{"t.csv": ",", "t.tsv": "\t"}[name]])
    for encoding in ("latin-1", "cp1252"):
        ended = prepare(recordings, name, content.encode(encoding), "--lang", "deu")
        refused(ended, f"{name}:3", "0xf6", "not UTF-8", "save the file as UTF-8")
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        assert prepare(recordings, name, content.encode(encoding), "--lang", "deu").code == 0
        assert words(recordings, "deu") == ["eins", "öfter"]
    refused(prepare(recordings, name, content.encode("utf-16-le")), f"{name}:", "UTF-8")


def test_a_fleurs_table_that_is_not_utf8_or_has_a_tab_in_a_text(recordings: Path) -> None:
    folder = recordings / "src/data/de_de"
    (folder / "audio/train").mkdir(parents=True)
    for table, facts in (
        ("1\ta.wav\tX\teins\n2\tb.wav\tÖ\töfter\n".encode("latin-1"), ["train.tsv:2", "not UTF-8"]),
        (b"1\ta.wav\tX\teins\n2\tb.wav\tO\to\tp\n", ["train.tsv:2", "5 cells"]),
        (b"1\ta.wav\tX\teins\n2\ta.wav\tO\to\n", ["train.tsv:2", "train.tsv:1", "another text"]),
    ):
        (folder / "train.tsv").write_bytes(table)
        arguments = [recordings / "src", recordings / "out", "--splits", "train"]
        refused(commands.run("tools/prepare_fleurs.py", *arguments), *facts)


def test_the_same_file_with_two_texts(recordings: Path) -> None:
    for second in ("a.wav", "./a.wav", str(recordings / "a.wav")):
        ended = prepare(recordings, "t.tsv", f"path\ttext\na.wav\tone\nb.wav\ttwo\n{second}\tthree\n")
        refused(ended, "t.tsv:4", "t.tsv:2", "'three'", "'one'", "another text")
    split = "path\ttext\tsplit\na.wav\tone\ttrain\na.wav\ttwo\tdev\n"
    refused(prepare(recordings, "t.tsv", split, "--split-column", "split"), "t.tsv:3", "t.tsv:2")


def test_the_same_file_with_the_same_text_twice(recordings: Path) -> None:
    ended = prepare(recordings, "t.tsv", "path\ttext\na.wav\tone\nb.wav\ttwo\na.wav\tOne!\n")
    assert ended.code == 0, ended.output
    assert "second time" in ended.output and "t.tsv:4" in ended.output
    assert words(recordings) == ["one", "two"]


def test_missing_audio_is_not_advised_to_be_accepted_when_it_is(recordings: Path) -> None:
    table = "path\ttext\na.wav\tone\nnone.wav\ttwo\n"
    ended = prepare(recordings, "t.tsv", table)
    assert ended.is_refused() and "add --allow-missing" in ended.output
    assert "t.tsv:3" in ended.output and str(recordings / "none.wav") in ended.output
    ended = prepare(recordings, "t.tsv", table, "--allow-missing")
    assert ended.code == 0 and "add --allow-missing" not in ended.output
