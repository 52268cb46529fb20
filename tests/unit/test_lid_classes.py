"""Class lists: order, files, nested lists of ours, and the class of a folder."""

import json
from pathlib import Path

import pytest

from mms_recipes import languages
from mms_recipes.lid import classes as lid_classes

# first classes of each list (facts: model cards of facebook/mms-lid-*)
META_FIRST = ["ara", "cmn", "eng", "spa", "fra", "mlg", "swe", "por", "vie", "ful"]


@pytest.mark.parametrize(("name", "size"), [("lid126", 126), ("lid256", 256)])
def test_published_lists_have_metas_order(name: str, size: int) -> None:
    classes = lid_classes.class_list(name)
    assert len(set(classes)) == size and classes[: len(META_FIRST)] == META_FIRST
    assert set(classes) == {row.id for row in languages.table().values() if name in row.sets}


def test_our_lists_are_nested_and_sorted() -> None:
    before = set(lid_classes.class_list("lid256"))
    for size in (512, 1024, 2048, 4017):
        classes = lid_classes.class_list(f"lid{size}_ours")
        assert len(classes) == size and classes == sorted(set(classes)) and before < set(classes)
        before = set(classes)
    assert before == {row.id for row in languages.table().values() if "lid4017" in row.sets}


def test_every_language_of_fleurs_has_a_class_of_lid126() -> None:
    ids = {name: number for number, name in enumerate(lid_classes.class_list("lid126"))}
    fleurs = [row.id for row in languages.table().values() if row.fleurs]
    assert len(fleurs) == 102 and all(lid_classes.class_of(lang, ids) in ids for lang in fleurs)


def test_class_of_a_folder() -> None:
    assert lid_classes.class_of("eng") == "eng"
    assert lid_classes.class_of("urd-script_arabic") == "urd"
    assert lid_classes.class_of("azj-script_latin") == lid_classes.class_of("azb") == "aze"
    assert lid_classes.class_of("azj-script_latin", {"azj": 0, "aze": 1}) == "azj"  # a list that keeps it apart
    assert lid_classes.class_of("uzb-script_latin", {"uzb-script_latin": 0, "uzb": 1}) == "uzb-script_latin"


def test_without_a_list_the_folders_are_the_classes() -> None:
    assert lid_classes.class_list("", ["urd-script_arabic", "eng", "azj-script_latin", "eng"]) == ["aze", "eng", "urd"]


def test_files(tmp_path: Path) -> None:
    lines, config = tmp_path / "dict.lang.txt", tmp_path / "config.json"
    lines.write_text("fra 12\neng 7\nzul 1\n")
    config.write_text(json.dumps({"id2label": {"1": "eng", "0": "fra", "2": "zul"}}))
    assert lid_classes.class_list(str(lines)) == lid_classes.class_list(str(config)) == ["fra", "eng", "zul"]


def test_unknown_name() -> None:
    with pytest.raises(
        FileNotFoundError, match=r"task.classes=lid127: no such file and no such list; expected lid126, "
    ):
        lid_classes.class_list("lid127")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("eng 1\n\nfra 1\n", r"dict.lang.txt:2: found '', expected a class, or a class and its count"),
        ("eng 1\nfra many\n", r"dict.lang.txt:2: found 'fra many', expected a class"),
        ("eng 1\nfra 1\neng 3\n", r"dict.lang.txt:3: 'eng' is a class a second time, first at .*dict.lang.txt:1"),
        ("", r"dict.lang.txt: no classes inside"),
    ],
)
def test_bad_lines(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "dict.lang.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=told):
        lid_classes.read_classes(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", r"config.json: not JSON"),
        ("{}", r"config.json: no id2label inside; expected the config.json of a classification model"),
        ('{"id2label": {"0": "eng", "2": "fra"}}', r"id2label has 2 classes, but none with the number 1"),
        (
            '{"id2label": {"0": "eng", "1": "eng"}}',
            r"id2label 1: 'eng' is a class a second time, first at .*id2label 0",
        ),
    ],
)
def test_bad_config(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=told):
        lid_classes.read_classes(path)
