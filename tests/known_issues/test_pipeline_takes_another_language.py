"""`transformers.pipeline(model=FOLDER)` took the first adapter's language, and nothing said which that was."""

import json
from pathlib import Path

import pytest
import soundfile
import transformers

from mms_recipes.formats.huggingface import reading
from tests.known_issues import commands
from tests.known_issues.lab import Lab


def test_the_default_language_is_chosen_and_on_the_card(tiny: Lab, tmp_path: Path) -> None:
    audio, _ = soundfile.read(tiny.wav, dtype="float32")
    texts = {}
    for lang in ("eng", "fra", "jpn"):
        scored = commands.run("transcribe", tiny.wav, "--checkpoint", tiny.adapters, "--lang", lang, "--quiet")
        texts[lang] = scored.last_line.partition("\t")[2]
    for default, option in (("eng", ()), ("jpn", ("--default-lang", "jpn"))):
        folder = tmp_path / default
        done = commands.run("convert", tiny.adapters, folder, "--to", "huggingface", *option)
        assert done.code == 0, done.output
        card = (folder / "README.md").read_text()
        assert f"default language is {default}" in card
        pipe = transformers.pipeline("automatic-speech-recognition", model=str(folder))
        assert words(pipe(audio.copy())["text"]) == words(texts[default])
        assert pipe.tokenizer.target_lang == default
        line = next(line for line in card.splitlines() if "load_adapter" in line)  # what the card says is what works
        other = line.split('"')[1]
        assert other != default
        assert line.strip().startswith(f'pipe.model.load_adapter("{other}"); pipe.tokenizer.set_target_lang("{other}")')
        pipe.model.load_adapter(other)
        pipe.tokenizer.set_target_lang(other)
        assert words(pipe(audio.copy())["text"]) == words(texts[other])
    assert reading.read(tmp_path / "jpn").default_lang == "jpn"
    again = commands.run("convert", tmp_path / "jpn", tmp_path / "again", "--to", "huggingface")
    assert again.code == 0 and "default language is jpn" in (tmp_path / "again" / "README.md").read_text()
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["target_lang"] == "jpn"


def words(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    ("source", "to", "lang", "facts"),
    [
        ("adapters", "huggingface", "ita", ["no adapter for ita", "eng"]),
        ("adapters", "huggingface", "../eng", ["no adapter for ../eng"]),
        ("adapters", "fairseq", "eng", ["huggingface"]),
        ("dense.pt", "huggingface", "eng", ["ctc"]),
    ],
)
def test_a_default_language_that_cannot_be(
    tiny: Lab, tmp_path: Path, source: str, to: str, lang: str, facts: list[str]
) -> None:
    asked = ("--to", to, "--default-lang", lang)
    refused = commands.run("convert", tiny.folder / source, tmp_path / "out", *asked)
    assert refused.is_refused(), refused.output
    assert all(fact in refused.last_line for fact in facts) and not (tmp_path / "out").exists()


def test_codes_of_other_lists_are_named(tiny: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    assert commands.run("convert", tiny.adapters, folder, "--to", "huggingface", "--langs", "eng,fra").code == 0
    (folder / "adapter.fra.safetensors").rename(folder / "adapter.pt-BR.safetensors")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    vocabulary["pt-BR"] = vocabulary.pop("fra")
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    done = commands.run("convert", folder, tmp_path / "adapters", "--to", "adapters")
    assert done.code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if "pt-BR" in line and "ISO 639-3" in line]
    assert "adapter pt-BR" in line


def test_nothing_of_others_is_replaced(tiny: Lab, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "file", "link"):
        for to in ("huggingface", "fairseq"):
            refused = commands.run("convert", tiny.dense, tmp_path / name, "--to", to)
            assert refused.is_refused() and str(tmp_path / name) in refused.last_line, refused.output
    (tmp_path / "dict.lang.txt").write_text("mine")
    refused = commands.run("convert", tiny.lid, tmp_path / "lid.pt", "--to", "fairseq")
    assert refused.is_refused() and "dict.lang.txt" in refused.last_line, refused.output
    assert (tmp_path / "dict.lang.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dict.lang.txt", "file", "folder", "link"]
