"""Label files, lists and tables of languages that are not UTF-8, or begin with a byte order mark."""

from pathlib import Path

import pytest

from mms_recipes import languages
from mms_recipes.lid import classes
from tests.known_issues import commands
from tests.known_issues.lab import Lab


@pytest.mark.parametrize("name", ["train.tsv", "train.wrd", "train.ltr", "train.uid", "dict.ltr.txt"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_a_corpus_with_a_mark(tiny: Lab, tmp_path: Path, name: str, encoding: str) -> None:
    path = tiny.copy_data(tmp_path / "data", "eng") / "eng" / name
    path.write_bytes(path.read_text().encode(encoding))
    ended = commands.run("tools/validate_manifests.py", tmp_path / "data")
    assert ended.code == 1, ended.output
    assert f"{path}:1" in ended.output and "byte order mark" in ended.output and "UTF-8" in ended.output


@pytest.mark.parametrize("name", ["train.wrd", "train.uid"])
def test_label_files_in_latin_1(tiny: Lab, tmp_path: Path, name: str) -> None:
    path = tiny.copy_data(tmp_path / "data", "eng") / "eng" / name
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], b"caf\xe9", *lines[3:]]))
    ended = commands.run("tools/validate_manifests.py", tmp_path / "data")
    assert ended.code == 1 and f"{path}:3" in ended.output and "not UTF-8" in ended.output, ended.output


def test_tables_and_lists_of_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "\t".join(languages.COLUMNS)
    path = tmp_path / "mine.tsv"
    monkeypatch.setenv(languages.EXTRA_TABLE_VARIABLE, str(path))
    path.write_bytes(f"{header}\nqaa\tqaa\t\tCafé\t\t\t\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"mine.tsv:2: not UTF-8 .*save the file as UTF-8"):
        languages.table()
    path.write_bytes(f"{header}\nqab\tqab\t\tCafé\t\t\t\n".encode("utf-8-sig"))
    languages._load.cache_clear()
    assert languages.name("qab") == "Café"
    path.write_bytes(b"eng\nfra\xe9\n")
    monkeypatch.delenv(languages.EXTRA_TABLE_VARIABLE)
    with pytest.raises(ValueError, match=r"mine.tsv:2: not UTF-8"):
        classes.read_classes(path)
