"""Codes such as zh, iw, eng_Latn and pt-BR were answered with other languages, or with none."""

from pathlib import Path

import pytest

from mms_recipes import language_codes, languages
from tests.known_issues import commands
from tests.known_issues.lab import Lab


@pytest.mark.parametrize(
    ("code", "meant", "not_meant"),
    [
        ("zh", ["cmn", "yue", "cmn-script_simplified"], []),
        ("zh-Hans", ["cmn-script_simplified"], ["yue"]),
        ("zh_TW", ["yue-script_traditional"], ["cmn-script_simplified"]),
        ("zho", ["cmn", "yue"], []),
        ("chi", ["cmn"], []),
        ("cmn_hans_cn", ["cmn-script_simplified"], ["yue"]),
        ("cmn-Hans", ["cmn-script_simplified"], ["yue"]),
        ("iw", ["heb"], []),
        ("in", ["ind"], []),
        ("ji", ["yid"], []),
        ("mo", ["ron"], []),
        ("sh", ["srp", "srp-script_latin", "hrv", "bos"], []),
        ("eng_Latn", ["eng"], []),
        ("ENG", ["eng"], []),
        ("en", ["eng"], []),
        ("en-GB", ["eng"], []),
        ("English", ["eng"], []),
        ("pt-BR", ["por"], []),
        ("pt_br", ["por"], []),
        ("nb", ["nob"], ["nno"]),
        ("no", ["nob", "nno"], []),
        ("nor", ["nob", "nno"], []),
        ("ger", ["deu"], []),
        ("sr-Cyrl", ["srp-script_cyrillic"], ["srp-script_latin"]),
        ("sr_Latn_RS", ["srp-script_latin"], ["srp-script_cyrillic"]),
        ("uz", ["uzb", "uzb-script_latin", "uzb-script_cyrillic"], []),
        ("ms", ["zsm", "zlm"], []),
        ("sw", ["swh"], []),
        ("fil", ["tgl"], []),
        ("kmr_Latn", ["kmr-script_latin"], ["kmr-script_arabic"]),
        ("arb_Arab", ["ara"], []),
        ("es-419", ["spa"], []),
    ],
)
def test_the_ids_that_are_meant_are_named(code: str, meant: list[str], not_meant: list[str]) -> None:
    for ask in (languages.language, languages.resolve):
        with pytest.raises(ValueError, match="unknown language or set") as error:
            ask(code)
        nearest = str(error.value).partition("nearest: ")[2].partition(". Ids are")[0]
        named = [one.partition(" (")[0] for one in nearest.split(", ")]
        assert named[0] in meant and set(meant) <= set(named), nearest
        assert not set(not_meant) & set(named), nearest


def test_ids_stay_ids() -> None:
    assert languages.language("cmn-script_simplified").id == "cmn-script_simplified"
    assert not language_codes.CODES.keys() & {row.id for row in languages.table().values()}


def test_commands_say_the_same(tiny: Lab, tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("path\ttext\na.wav\tx\n")
    (tmp_path / "src/data/en").mkdir(parents=True)
    (tmp_path / "src/data/en/train.tsv").write_text("1\ta.wav\tx\tx\n")
    for ended in (
        commands.run("tools/prepare_folder.py", tmp_path / "t.tsv", tmp_path / "out", "--lang", "en"),
        commands.run("tools/prepare_fleurs.py", tmp_path / "src", tmp_path / "out"),
        commands.run("tools/validate_manifests.py", tiny.data, "--langs", "en-US"),
        commands.run("transcribe", tiny.wav, "--checkpoint", tiny.adapters, "--lang", "eng_Latn"),
        commands.run("evaluate", f"checkpoint={tiny.adapters}", f"data={tiny.data}", f"out={tmp_path}/o", "langs=[en]"),
        commands.run("train", *tiny.lsah(tmp_path / "runs", 2, "task.langs=[en]")),
    ):
        assert ended.is_refused(), ended.output
        assert "eng (English)" in ended.output, ended.output
