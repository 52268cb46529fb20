"""Reading and writing manifests, labels and dictionaries, and the frames of wav2vec 2.0."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mms_recipes import manifest
from mms_recipes.manifest import Utterance


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def utterance(number: int, words: str = "ab c") -> Utterance:
    return Utterance(f"a/{number}.wav", 16000 + number, "a b | c |", words, f"eng_train_{number}")


def test_a_manifest_is_read(tmp_path: Path) -> None:
    rows = manifest.read_manifest(
        write(tmp_path / "train.tsv", "/corpus\na b/ü.wav\t16000\n/abs/2.wav\t0\nx\t2147483647\n")
    )
    assert len(rows) == 3
    assert rows.root == Path("/corpus")
    assert rows.num_samples.tolist() == [16000, 0, 2**31 - 1]
    assert rows.num_samples.dtype == np.int32
    assert [rows.name(index) for index in range(3)] == list(rows.names()) == ["a b/ü.wav", "/abs/2.wav", "x"]
    assert rows.path(0) == Path("/corpus/a b/ü.wav")
    assert rows.path(1) == Path("/abs/2.wav")
    assert rows.rows.where(1) == f"{tmp_path / 'train.tsv'}:3"
    assert rows.seconds() == (16000 + 2**31 - 1) / 16000


def test_a_relative_root_counts_from_the_folder_of_the_manifest(tmp_path: Path) -> None:
    rows = manifest.read_manifest(write(tmp_path / "train.tsv", "audio\n1.wav\t5\n"))
    assert rows.path(0) == tmp_path / "audio" / "1.wav"


@pytest.mark.parametrize("content", ["/r\na\t1\nb\t22", "/r\r\na\t1\r\nb\t22\r\n"])
def test_last_line_feed_and_carriage_returns_do_not_matter(tmp_path: Path, content: str) -> None:
    rows = manifest.read_manifest(write(tmp_path / "train.tsv", content))
    assert rows.root == Path("/r")
    assert [rows.name(0), rows.name(1), *rows.num_samples.tolist()] == ["a", "b", 1, 22]
    lines = manifest.read_lines(write(tmp_path / "train.ltr", content))
    assert list(lines) == ["/r", "a\t1", "b\t22"] == [lines[index] for index in range(3)]


def test_a_manifest_of_no_rows_is_read(tmp_path: Path) -> None:
    for content in ("/data\n", "/data"):
        rows = manifest.read_manifest(write(tmp_path / "train.tsv", content))
        assert len(rows) == 0 and list(rows.names()) == [] and rows.seconds() == 0


@pytest.mark.parametrize("content", ["", "\n", "a.wav\t16000\n", "  \na\t1\n"])
def test_a_manifest_without_root_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"train.tsv:1: found .*, expected the root folder of the audio"):
        manifest.read_manifest(write(tmp_path / "train.tsv", content))


@pytest.mark.parametrize(
    "row",
    [
        "a.wav",
        "a.wav\t",
        "\t16000",
        "a.wav\t1 6",
        "a.wav\t-1",
        "a.wav\t1.5",
        "a\tb\t5",
        "a.wav\t2147483648",
        "",
        "a.wav\t99999999999",
        "a.wav\t12345678901234567890123",
        "a.wav 16000",
        "a.wav\t\r",
        "a.wav\t١",
    ],
)
@pytest.mark.parametrize("others", [0, 2])
def test_malformed_rows_are_named(tmp_path: Path, row: str, others: int) -> None:
    good = "g.wav\t100\n"
    tsv = write(tmp_path / "train.tsv", "/data\n" + good * others + row + "\n" + good * others)
    with pytest.raises(
        ValueError, match=rf"train.tsv:{others + 2}: found .*, expected a path, a tab and the number of"
    ):
        manifest.read_manifest(tsv)


def test_two_wrongs_that_count_right_are_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.tsv:2: found 'a\\tb\\t5'"):
        manifest.read_manifest(write(tmp_path / "train.tsv", "/data\na\tb\t5\nc\n"))


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"train.tsv: no such file; prepare the corpus with tools/prepare_fleurs"
    ):
        manifest.read_manifest(tmp_path / "train.tsv")
    with pytest.raises(FileNotFoundError, match=r"train.ltr: no such file; rebuild it with the tool that made"):
        manifest.read_lines(tmp_path / "train.ltr")


@given(st.data())
def test_any_rows_come_back_over_block_borders(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    names = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1, max_size=12)
    rows = data.draw(st.lists(st.tuples(names, st.integers(0, 2**31 - 1)), min_size=1, max_size=30))
    tsv = tmp_path_factory.mktemp("rows") / "train.tsv"
    write(tsv, "/data\n" + "".join(f"{name}\t{samples}\n" for name, samples in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_BLOCK_BYTES", data.draw(st.integers(1, 64)))
        found = manifest.read_manifest(tsv)
    assert found.num_samples.tolist() == [samples for _, samples in rows]
    assert list(found.names()) == [name for name, _ in rows] == [found.name(index) for index in range(len(found))]


def test_a_bad_row_in_a_later_block_has_its_line_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_BLOCK_BYTES", 16)
    with pytest.raises(ValueError, match=r"train.tsv:22: found 'bad'"):
        manifest.read_manifest(write(tmp_path / "train.tsv", "/data\n" + "a.wav\t5\n" * 20 + "bad\n" + "a.wav\t5\n"))


def test_lines_are_indexed(tmp_path: Path) -> None:
    lines = manifest.read_lines(write(tmp_path / "x.ltr", "a b |\n\nก ข |\n"))
    assert (len(lines), lines[0], lines[1], lines[2], lines[-1]) == (3, "a b |", "", "ก ข |", "ก ข |")
    assert list(lines) == ["a b |", "", "ก ข |"]
    assert lines.lengths().tolist() == [5, 0, 9]
    assert lines.where(2) == f"{tmp_path / 'x.ltr'}:3"
    for index in (3, -4):
        with pytest.raises(IndexError, match=rf"x.ltr has 3 lines, asked for line {index}"):
            lines[index]
    assert len(manifest.read_lines(write(tmp_path / "empty", ""))) == 0


def test_manifests_travel_to_data_loader_workers(tmp_path: Path) -> None:
    rows = manifest.read_manifest(write(tmp_path / "train.tsv", "/data\na\t5\nb\t6\n"))
    assert pickle.loads(pickle.dumps(rows)).path(1) == Path("/data/b")


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    lines = manifest.read_lines(write(tmp_path / "x.ltr", "a |\nb |\n"))
    write(tmp_path / "x.ltr", "a | x |\nb |\n")
    with pytest.raises(ValueError, match=r"x.ltr has changed since it was opened; start again"):
        lines[0]


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    lines = manifest.read_lines(write(tmp_path / "x.wrd", b"good\nb\xe4d\n"))
    with pytest.raises(ValueError, match=r"x.wrd:2: not UTF-8 \(.*\); save the file as UTF-8"):
        lines[1]
    with pytest.raises(ValueError, match=r"x.wrd:2: not UTF-8"):
        list(lines)
    rows = manifest.read_manifest(write(tmp_path / "x.tsv", b"/data\n\xff\t5\n"))
    with pytest.raises(ValueError, match=r"x.tsv:2: not UTF-8"):
        rows.name(0)


@pytest.mark.parametrize(("relative", "header"), [(False, "{root}"), (True, "../corpus")])
def test_a_split_is_written_and_read(tmp_path: Path, relative: bool, header: str) -> None:
    folder, root = tmp_path / "eng", tmp_path / "corpus"
    assert manifest.write_split(folder, "train", root, [utterance(1), utterance(2, "x")], relative_root=relative) == 2
    assert (folder / "train.tsv").read_text() == header.format(root=root) + "\na/1.wav\t16001\na/2.wav\t16002\n"
    assert (folder / "train.ltr").read_text() == "a b | c |\na b | c |\n"
    assert (folder / "train.wrd").read_text() == "ab c\nx\n"
    assert (folder / "train.uid").read_text() == "eng_train_1\neng_train_2\n"
    assert manifest.read_manifest(folder / "train.tsv").path(1).resolve() == root / "a" / "2.wav"
    assert sorted(path.name for path in folder.iterdir()) == ["train.ltr", "train.tsv", "train.uid", "train.wrd"]


def test_a_relative_root_moves_with_its_audio(tmp_path: Path) -> None:
    manifest.write_split(
        tmp_path / "one" / "eng", "train", tmp_path / "one" / "eng", [utterance(1)], relative_root=True
    )
    (tmp_path / "one").rename(tmp_path / "two")
    rows = manifest.read_manifest(tmp_path / "two" / "eng" / "train.tsv")
    assert rows.path(0) == tmp_path / "two" / "eng" / "a" / "1.wav"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Utterance("a\tb.wav", 5, "a |", "a", "u1"), r"u1: 'a\\tb.wav' holds a tab or a line break"),
        (Utterance("a.wav", 5, "a |", "a\nb", "u1"), r"u1: 'a\\nb' holds a tab or a line break"),
        (Utterance("a.wav", 5, "a\r|", "a", "u1"), r"u1: 'a\\r|' holds a tab or a line break"),
        (Utterance("a.wav", 0, "a |", "a", "u1"), r"u1: 0 samples, expected 1 to 2147483647; leave it out"),
    ],
)
def test_what_a_manifest_cannot_hold_is_refused_and_nothing_written(
    tmp_path: Path, row: Utterance, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        manifest.write_split(tmp_path, "train", tmp_path, [utterance(1), row])
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "dict.ltr.txt", "old 1\n")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        manifest.write_dictionary(tmp_path / "dict.ltr.txt", {"a": 1})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("dict.ltr.txt", "old 1\n")]


def test_labels_are_opened_together(tmp_path: Path) -> None:
    manifest.write_split(tmp_path, "dev", tmp_path, [utterance(1), utterance(2)])
    labels = manifest.read_labels(tmp_path, "dev", 2)
    assert (labels.units[1], labels.words[1], labels.uids[1]) == ("a b | c |", "ab c", "eng_train_2")


@pytest.mark.parametrize(("lines", "place"), [(1, 2), (4, 4)])
@pytest.mark.parametrize("suffix", manifest.LABEL_SUFFIXES)
def test_label_counts_must_match(tmp_path: Path, suffix: str, lines: int, place: int) -> None:
    manifest.write_split(tmp_path, "dev", tmp_path, [utterance(number) for number in range(3)])
    write(tmp_path / f"dev.{suffix}", "x\n" * lines)
    message = rf"dev.{suffix}:{place}: {lines} labels for 3 utterances in dev.tsv; rebuild them with the tool"
    with pytest.raises(ValueError, match=message):
        manifest.read_labels(tmp_path, "dev", 3)


def test_a_dictionary_is_counted_written_and_read(tmp_path: Path) -> None:
    write(tmp_path / "1.ltr", "b a | a |\n")
    write(tmp_path / "2.ltr", "ก c |\n")
    counts = manifest.count_letters([tmp_path / "1.ltr", tmp_path / "2.ltr"])
    assert counts == {"|": 3, "a": 2, "b": 1, "c": 1, "ก": 1}
    manifest.write_dictionary(tmp_path / "dict.ltr.txt", counts)
    assert (tmp_path / "dict.ltr.txt").read_text() == "| 3\na 2\nb 1\nc 1\nก 1\n"
    assert manifest.read_dictionary(tmp_path / "dict.ltr.txt") == ["|", "a", "b", "c", "ก"]


def test_fairseq_reads_the_dictionary_with_the_same_numbers(tmp_path: Path) -> None:
    dictionary = pytest.importorskip("fairseq.data.dictionary")
    manifest.write_dictionary(tmp_path / "dict.ltr.txt", {"|": 9, "#": 3, "ก": 3, "\u0301": 2, "'": 1})
    theirs = dictionary.Dictionary.load(str(tmp_path / "dict.ltr.txt"))
    assert theirs.symbols == [*manifest.SPECIAL_TOKENS, *manifest.read_dictionary(tmp_path / "dict.ltr.txt")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1\nb\n", r"dict.ltr.txt:2: found 'b', expected a unit, a space and its count"),
        ("a 1\n 2\n", r"dict.ltr.txt:2: found ' 2', expected a unit"),
        ("a x\n", r"dict.ltr.txt:1: found 'a x', expected a unit"),
        ("a b 1\n", r"dict.ltr.txt:1: found 'a b 1', expected a unit"),
        ("a 1\n\n", r"dict.ltr.txt:2: found '', expected a unit"),
        ("a 1\na 2\n", r"dict.ltr.txt:2: 'a' is a special token or there twice; take the line out"),
        ("<pad> 1\n", r"dict.ltr.txt:1: '<pad>' is a special token"),
        ("", r"dict.ltr.txt: holds no letters; rebuild it"),
    ],
)
def test_malformed_dictionaries_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        manifest.read_dictionary(write(tmp_path / "dict.ltr.txt", content))


def test_frames_are_those_of_the_convolutions() -> None:
    layers = [
        torch.nn.Conv1d(1, 1, kernel, stride)
        for kernel, stride in zip((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2), strict=True)
    ]
    stack = torch.nn.Sequential(*layers)
    for num_samples in (400, 401, 719, 720, 1039, 16000, 16001, 48123):
        assert manifest.num_frames(num_samples) == stack(torch.zeros(1, 1, num_samples)).shape[2]
    for num_samples in (0, 1, 9, 10, 399):
        assert manifest.num_frames(num_samples) == 0
    many = np.array([0, 399, 400, 16000, 2**31 - 1], np.int32)
    assert manifest.num_frames(many).tolist() == [manifest.num_frames(int(samples)) for samples in many]
