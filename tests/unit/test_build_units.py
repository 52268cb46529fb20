"""Units of words: letters and sentencepiece's pieces, written alike; the tool that learns them."""

import json
import shutil
import sys
from pathlib import Path

import build_units
import pytest

from mms_recipes import text
from mms_recipes.manifest import read_dictionary, read_lines
from mms_recipes.unit_kinds import PIECES_MODEL, UnitKind, kind_of
from mms_recipes.units import LETTERS, Units, read_units, train_units

DICTIONARY = UnitKind.sentencepiece.dictionary

pytest.importorskip("sentencepiece", reason="sentencepiece (extra [decoding]) is missing: this test did NOT run")

# The sentences of tools/speak_sentences.py are made at run time; these are like them, in the scripts of the demo.
SENTENCES = {
    "ben": "আমার সোনার বাংলা আমি তোমায় ভালোবাসি চিরদিন তোমার আকাশ তোমার বাতাস আমার প্রাণে বাজায় বাঁশি",
    "eng": "that's right the quick brown fox jumps over the lazy dog and the other dog's brother thinks",
    "fra": "l'été dernier nous avons mangé des pêches à la crème près de l'église où s'élève un chêne",
    "ita": "perché la città è più bella di notte e l'acqua del fiume va piano verso il mare",
    "jpn": "やさいあおいびょういん はしがすきです きょうはとてもいいてんきですね あしたもいいてんきでしょう",
    "kor": "커피 오래된 한국 물고기 화요일 보세요 강아지 다시 시도하세요 들 큰",
    "rus": "съешь же ещё этих мягких французских булок да выпей чаю и скажи спасибо",
    "spa": "el pingüino wenceslao hizo kilómetros bajo exhaustiva lluvia y frío añoraba a su querido cachorro",
}


def sentences(lang: str) -> list[str]:
    """Return some sentences: every run of three words, so that words recur."""
    words = SENTENCES[lang].split()
    return [" ".join(words[n : n + 3]) for n in range(max(1, len(words) - 2))] * 3


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    for lang in SENTENCES:
        folder = tmp_path / "manifests" / lang
        folder.mkdir(parents=True)
        for split in ("train", "dev"):
            lines = sentences(lang) if split == "train" else sentences(lang)[:2]
            (folder / f"{split}.wrd").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            (folder / f"{split}.tsv").write_text("/nowhere\n", encoding="utf-8")
    return tmp_path / "manifests"


@pytest.mark.parametrize("lang", SENTENCES)
def test_words_survive_units(lang: str) -> None:
    learnt, counts = train_units(sentences(lang), 40)
    for units in (LETTERS, learnt, Units(bytes(learnt.model))):
        for sentence in [*sentences(lang), SENTENCES[lang]]:
            encoded = units.encode(sentence)
            assert units.decode(encoded) == sentence
            assert text.to_words(" ".join(encoded)) == sentence  # so whatever reads letters reads units
            assert not any(set(unit) & set(" \t\u2581") for unit in encoded)
    assert set(learnt.encode(SENTENCES[lang])) <= counts.keys()


def test_pieces_are_fewer_than_letters_and_include_every_letter() -> None:
    learnt, counts = train_units(sentences("eng"), 40)
    sentence = SENTENCES["eng"]
    assert len(learnt.encode(sentence)) < len(LETTERS.encode(sentence))
    assert set(sentence.replace(" ", "|")) <= counts.keys()
    assert len(counts) == 40 and learnt.kind == "sentencepiece" and LETTERS.kind == "letters"
    assert learnt.encode("") == [] and learnt.decode([]) == ""


def test_a_word_is_spelt_as_the_labels_have_it() -> None:
    learnt, _ = train_units(sentences("eng"), 60)
    sentence = SENTENCES["eng"]
    assert learnt.encode(sentence) == [unit for word in sentence.split() for unit in learnt.encode(word)]


def test_text_is_not_normalised_again() -> None:
    odd = ["ﬁne ﬁsh x² no\u0308el", "ﬁne x²"] * 5  # NFKC would change all but the last letters
    learnt, _ = train_units(odd, 30)
    assert learnt.decode(learnt.encode(odd[0])) == odd[0]


def test_equal_text_gives_equal_units() -> None:
    assert train_units(sentences("rus"), 50) == train_units(iter(sentences("rus")), 50)


def test_more_letters_than_units_asked_for() -> None:
    learnt, counts = train_units(sentences("kor"), 5)
    letters = set(SENTENCES["kor"].replace(" ", "|"))
    assert counts.keys() == letters == set(learnt.pieces())


def test_an_unknown_letter_is_no_unit() -> None:
    learnt, counts = train_units(sentences("eng"), 60)
    assert [unit for unit in learnt.encode("the ж") if unit not in counts] == ["ж"]


@pytest.mark.parametrize(
    ("lines", "said"),
    [([], "no text"), (["", ""], "no text"), (["a|b"], "mark the ends"), (["a\u2581b"], "mark the ends")],
)
def test_text_that_cannot_be_learnt_from(lines: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        train_units(lines, 10)


def test_the_word_mark_in_a_sentence_is_refused() -> None:
    learnt, _ = train_units(sentences("eng"), 60)
    for units in (LETTERS, learnt):
        with pytest.raises(ValueError, match="word mark"):
            units.encode("a|b")


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="build_units"):
        read_units(tmp_path / "none.model")
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"bad\.model: not a model"):
        read_units(tmp_path / "bad.model")
    (tmp_path / "empty.model").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.model: not a model"):
        read_units(tmp_path / "empty.model")


def test_a_model_that_marks_the_starts_of_words_is_refused(tmp_path: Path) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences("eng")),
        model_prefix=str(tmp_path / "other"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    with pytest.raises(ValueError, match="where words begin"):
        read_units(tmp_path / "other.model")


def test_the_tool_writes_models_dictionaries_and_labels(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_units.main([str(manifests), "--vocab-size", "40"]) == 0
    everything: set[str] = set()
    for lang in SENTENCES:
        units = read_units(manifests / lang / PIECES_MODEL)
        known = read_dictionary(manifests / lang / DICTIONARY)
        everything |= set(known)
        for split in ("train", "dev"):
            labels = list(read_lines(manifests / lang / f"{split}.units"))
            words = list(read_lines(manifests / lang / f"{split}.wrd"))
            assert [units.decode(line.split()) for line in labels] == words
            assert {unit for line in labels for unit in line.split()} <= set(known)
    assert set(read_dictionary(manifests / DICTIONARY)) == everything
    assert "eng: 40 units" in capsys.readouterr().out


def test_the_tool_skips_what_is_finished_and_sees_changes(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(manifests), "--langs", "eng,kor", "--vocab-size", "50"]
    assert build_units.main(command) == 0
    assert "asked for 50: the text has no more pieces" in capsys.readouterr().out
    before = (manifests / "eng" / PIECES_MODEL).stat().st_mtime_ns
    with (manifests / "kor" / "train.wrd").open("a", encoding="utf-8") as file:
        file.write("새 문장\n")
    (manifests / "kor" / "units.json").read_text(encoding="utf-8")
    assert build_units.main(command) == 0
    said = capsys.readouterr().out
    assert "eng: finished before" in said and "kor: finished before" not in said
    assert (manifests / "eng" / PIECES_MODEL).stat().st_mtime_ns == before
    assert "새" in json.loads((manifests / "kor" / "units.json").read_text(encoding="utf-8"))["counts"]
    (manifests / "eng" / "dev.units").unlink()
    assert build_units.main(command) == 0
    assert "eng: finished before" not in capsys.readouterr().out and (manifests / "eng" / "dev.units").is_file()


def test_the_tool_names_what_is_missing(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (manifests / "eng" / "train.wrd").write_text("\n\n", encoding="utf-8")
    assert build_units.main([str(manifests), "--langs", "eng"]) == 1
    assert "eng/train.wrd: no text to learn units from" in capsys.readouterr().err
    shutil.rmtree(manifests / "eng")
    assert build_units.main([str(manifests), "--langs", "eng"]) == 1
    assert "eng/train.wrd: no such file" in capsys.readouterr().err
    assert build_units.main([str(manifests), "--vocab-size", "1"]) == 1
    assert "expected 2 or more" in capsys.readouterr().err


def test_without_sentencepiece_the_remedy_is_told(manifests: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learnt, _ = train_units(sentences("eng"), 40)
    (manifests / "eng" / PIECES_MODEL).write_bytes(learnt.model)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "sentencepiece", None)  # as if it were not installed
        assert build_units.main([str(manifests), "--langs", "eng"]) == 1
        assert "install it with pip install '.[decoding]'" in capsys.readouterr().err
        with pytest.raises(ValueError, match=r"install it with pip install '\.\[decoding\]'"):
            read_units(manifests / "eng" / PIECES_MODEL)
        assert LETTERS.encode("a b") == ["a", "|", "b", "|"]  # letters do without


def test_units_as_text() -> None:
    learnt, _ = train_units(sentences("eng"), 40)
    assert Units.from_text(learnt.to_text()) == learnt and Units.from_text(LETTERS.to_text()) == LETTERS
    with pytest.raises(ValueError, match="Only base64 data"):
        Units.from_text("no base64!")


def test_kinds_of_files() -> None:
    names = {
        "train.ltr": "letters",
        "train.wrd": "letters",
        "dict.ltr.txt": "letters",
        "dict.units.txt": "sentencepiece",
    }
    for name, kind in (names | {"dev.clean.units": "sentencepiece"}).items():
        assert kind_of(Path("units.d") / name) == UnitKind(kind)
