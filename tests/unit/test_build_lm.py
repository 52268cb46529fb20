"""From text to n-gram models: cleaning, rules, vocabulary, KenLM's programs, and that decoders read the result."""

import bz2
import gzip
import json
import lzma
import random
import stat
import subprocess
import tarfile
from collections import Counter
from pathlib import Path

import build_kenlm
import build_lm
import build_units
import kenlm_programs
import lm_corpus
import pytest
from kenlm_programs import Programs

from mms_recipes.decoding import lm_text, ngrams
from mms_recipes.decoding.language_model import read_order, read_vocabulary
from mms_recipes.manifest import SPECIAL_TOKENS, count_letters, read_dictionary, write_dictionary
from mms_recipes.text import to_letters
from mms_recipes.unit_kinds import UnitKind
from mms_recipes.units import LETTERS, folder_units, read_units

GB = 1_000_000_000
WORDS = "the cat dog sat on a mat and ran home again with that old man's hat".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def programs() -> Programs:
    try:
        return kenlm_programs.find_programs(None)
    except FileNotFoundError as error:
        pytest.skip(f"{error}: this test did NOT run")


@pytest.fixture
def english(tmp_path: Path) -> tuple[Path, Path]:
    """Return a text of 300 sentences, as people write, and the dictionary of its letters."""
    generator = random.Random(1)
    lines = [" ".join(generator.choices(WORDS, k=generator.randint(2, 9))) for _ in range(300)]
    text, dictionary = tmp_path / "text.txt", tmp_path / "dict.ltr.txt"
    text.write_text("".join(f"{line.capitalize()}! 😀\n" for line in lines), encoding="utf-8")
    write_dictionary(dictionary, Counter(letter for line in lines for letter in to_letters(line).split()))
    return text, dictionary


def call(*arguments: object) -> int:
    return build_lm.main(list(map(str, arguments)))


def write_corpus(folder: Path, lines: dict[str, list[str]]) -> Path:
    """Write manifests of these sentences, each twenty times, without audio."""
    for lang, sentences in lines.items():
        corpus = folder / "manifests" / lang
        corpus.mkdir(parents=True)
        (corpus / "train.tsv").write_text("/nowhere\n", encoding="utf-8")
        (corpus / "train.wrd").write_text("".join(f"{line}\n" for line in sentences * 20), encoding="utf-8")
        (corpus / "train.ltr").write_text("".join(f"{to_letters(s)}\n" for s in sentences * 20), encoding="utf-8")
        write_dictionary(corpus / "dict.ltr.txt", count_letters([corpus / "train.ltr"]))
    return folder / "manifests"


# ---- text


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a😀b", "a b"),
        ("ja 👩‍👩‍👧‍👦 nein", "ja      nein"),
        ("👍🏽 gut", "  gut"),
        ("go \U0001f1eb\U0001f1f7 go", "go    go"),
        ("info ℹ️ hier", "info   hier"),
        ("taste 1️⃣ #⃣", "taste    "),
        ("\U0001f201 ㊗️", "   "),
        ("Brot™ ㊗ 12 # ❤ é 한 あ", "Brot™ ㊗ 12 #   é 한 あ"),
    ],
)
def test_emoji_go_and_letters_stay(raw: str, clean: str) -> None:
    assert lm_text.remove_emoji(raw) == clean


def test_every_kind_of_file_gives_the_same_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_text, "BLOCK_BYTES", 7)
    content = "eins\nzwei\n\nein langer Satz mit vielen Wörtern\nfünf".encode()
    for suffix, compress in (("txt", bytes), ("gz", gzip.compress), ("xz", lzma.compress), ("bz2", bz2.compress)):
        path = tmp_path / f"text.{suffix}"
        path.write_bytes(compress(content))
        blocks = list(lm_text.read_blocks(path))
        numbered = [
            (block.first_line + n, line) for block in blocks for n, line in enumerate(block.content.split(b"\n"))
        ]
        assert numbered == list(enumerate(content.split(b"\n"), start=1))
        assert len(blocks) > 2 and blocks[-1].position == path.stat().st_size


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"words and words\n" * 1000)[:-20])
    with pytest.raises(ValueError, match=r"text\.gz: cannot be read to its end"):
        list(lm_text.read_blocks(path))
    (tmp_path / "text.xz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"text\.xz: cannot be read"):
        list(lm_text.read_blocks(tmp_path / "text.xz"))


def test_a_line_without_end_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_text, "BLOCK_BYTES", 10)
    monkeypatch.setattr(lm_text, "MAX_LINE_BYTES", 50)
    (tmp_path / "text").write_bytes(b"one\n" + b"x" * 200)
    with pytest.raises(ValueError, match=r"text:2: more than"):
        list(lm_text.read_blocks(tmp_path / "text"))


def test_lines_are_normalised_counted_and_left_out(tmp_path: Path) -> None:
    block = lm_text.Block(tmp_path / "x", 1, "\ufeffHello, 😀 World!\n\n12 34\nhello\r".encode(), 0)
    found = lm_text.prepare(block, "eng", "mms-1", None)
    assert found.text == b"hello world\nhello\n" and (found.lines, found.usable, found.num_bytes) == (4, 2, 18)
    assert found.counts == {"hello": 2, "world": 1}
    letters = lm_text.prepare(block, "eng", "mms-1", LETTERS.encode)
    assert letters.text == b"h e l l o | w o r l d |\nh e l l o |\n" and letters.num_bytes == 18
    assert letters.counts["|"] == 3


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    block = lm_text.Block(tmp_path / "text.txt", 7, b"good\nb\xe4d\n", 0)
    with pytest.raises(ValueError, match=r"text\.txt:8: not UTF-8"):
        lm_text.prepare(block, "deu", "mms-1", None)
    block = lm_text.Block(tmp_path / "text.txt", 7, b"a|b", 0)
    with pytest.raises(ValueError, match=r"text\.txt:7: .*word mark"):
        lm_text.prepare(block, "deu", "none", LETTERS.encode)


def test_counts_stay_within_bounds_and_keep_the_frequent() -> None:
    total: Counter[str] = Counter()
    floors = [lm_text.add_counts(total, Counter({"the": 100, "of": 50, f"rare{n}": 1}), limit=6) for n in range(50)]
    assert len(total) <= 6 and total["the"] == 5000 and total["of"] == 2500
    assert max(floors) == 1 and floors[0] == 0


# ---- rules


@pytest.mark.parametrize(
    ("kind", "num_bytes", "transcripts", "pruning", "fallback"),
    [
        ("word", 5 * GB, False, (1, 2, 3, 4, 5), False),
        ("word", 5 * GB - 1, False, (1, 1, 2, 3, 4), False),
        ("word", GB, False, (1, 1, 2, 3, 4), False),
        ("word", GB - 1, False, (1, 1, 2, 3, 4), True),
        ("letter", 3 * GB, False, (0, 0, 0, 0, 0, 1, 1, 1, 2, 3), True),
        ("letter", 1000, True, (), True),
        ("word", 1000, True, (), True),
    ],
)
def test_pruning_of_the_paper(
    kind: lm_text.Kind, num_bytes: int, transcripts: bool, pruning: tuple[int, ...], fallback: bool
) -> None:
    order = ngrams.default_order(kind, transcripts)
    assert order == (5 if kind == "word" else 15 if transcripts else 20)
    assert ngrams.paper_recipe(kind, order, num_bytes, transcripts) == ngrams.Recipe(kind, order, pruning, fallback)


def test_pruning_is_cut_to_the_order() -> None:
    assert ngrams.paper_recipe("letter", 6, GB, False).pruning == (0, 0, 0, 0, 0, 1)
    assert ngrams.paper_recipe("word", 3, GB, False).pruning == (1, 1, 2)


def test_kinds_of_languages() -> None:
    assert [ngrams.default_kind(lang) for lang in ("eng", "jpn", "cmn-script_simplified", "kor")] == [
        "word",
        "letter",
        "letter",
        "word",
    ]


def test_pruning_that_is_given() -> None:
    assert ngrams.parse_pruning("0 0 1", 5) == (0, 0, 1) == ngrams.parse_pruning("0,0,1", 3)
    assert ngrams.parse_pruning("none", 5) == ()
    for wrong in ("1 0", "a", "-1 0", "0 0 0 0", ""):
        with pytest.raises(ValueError, match="expected none, or at most 3"):
            ngrams.parse_pruning(wrong, 3)


def test_vocabulary_is_the_most_frequent_and_spelt() -> None:
    counts = {"rare": 1, "naïve": 5, "the": 9, "a": 5, "zoo": 2}
    found = ngrams.vocabulary(counts, set("|theaznvreoi"), LETTERS.encode, size=4)
    assert found.lexicon() == "the\tt h e |\na\ta |\nzoo\tz o o |\n"
    assert found.outside == {"naïve": ["ï"]}
    assert ngrams.describe_outside(found, counts, "word") == "1 of 4 words (22.73 % of the text): naïve (ï)"


# ---- models


def test_flashlight_and_kenlm_score_the_model_alike(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs
) -> None:
    kenlm = pytest.importorskip("kenlm")
    decoder = pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    dictionary_module = pytest.importorskip("flashlight.lib.text.dictionary")
    text, dictionary = english
    for structure in ("probing", "trie"):
        out = tmp_path / structure
        command = [text, out, "--lang", "eng", "--dictionary", dictionary, "--prune", "none", "--structure", structure]
        assert call(*command) == 0
        model = kenlm.Model(str(out / "eng" / "lm.bin"))
        assert model.order == 5 == read_order(out / "eng" / "lm.bin")
        words = dictionary_module.Dictionary()
        for line in (out / "eng" / "lexicon.txt").read_text(encoding="utf-8").splitlines():
            words.add_entry(line.split("\t")[0])
        reader = decoder.KenLM(str(out / "eng" / "lm.bin"), words)
        for sentence in ("the cat sat on the mat", "mat mat with dog"):
            state, score = reader.start(False), 0.0
            for word in sentence.split():
                state, step = reader.score(state, words.get_index(word))
                score += step
            state, step = reader.finish(state)
            assert score + step == pytest.approx(model.score(sentence), abs=1e-4)
        assert model.score("the cat sat") > model.score("sat the xyzzy")


def test_a_word_model_has_what_decoding_needs(english: tuple[Path, Path], tmp_path: Path, programs: Programs) -> None:
    text, dictionary = english
    assert call(text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--licence", "CC0") == 0
    folder = tmp_path / "lms" / "eng"
    assert sorted(path.name for path in folder.iterdir()) == ["lexicon.txt", "lm.bin", "lm.json"]
    lexicon = dict(line.split("\t") for line in (folder / "lexicon.txt").read_text(encoding="utf-8").splitlines())
    assert lexicon.keys() == set(WORDS) and lexicon["man's"] == "m a n ' s |"
    assert read_vocabulary(folder / "lm.bin") == {*WORDS, "<s>", "</s>", "<unk>"}
    document = json.loads((folder / "lm.json").read_text(encoding="utf-8"))
    assert document["pruning"] == [1, 1, 2, 3, 4] and document["usable_lines"] == 300
    assert document["settings"]["licence"] == "CC0" and document["settings"]["normalization"] == "mms-2"
    assert document["vocabulary"] == len(WORDS) and len(document["ngrams"]) == 5


def test_the_vocabulary_is_limited(english: tuple[Path, Path], tmp_path: Path, programs: Programs) -> None:
    text, dictionary = english
    assert call(text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--vocabulary", 4) == 0
    known = read_vocabulary(tmp_path / "lms" / "eng" / "lm.bin")
    assert known and len(known - {"<s>", "</s>", "<unk>"}) == 4


def test_a_limited_vocabulary_on_memory_that_is_not_clear(
    tmp_path: Path, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KenLM 0.3.0 as it comes crashes on this, always, with the settings that `make` exports."""
    for name, value in (("MMAP_MAX_", "0"), ("TRIM_THRESHOLD_", "100000000000"), ("TOP_PAD_", "268435456")):
        monkeypatch.setenv(f"MALLOC_{name}", value)
    text = tmp_path / "text.gz"
    text.write_bytes(gzip.compress(b"the cat sat\na dog ran home\n" * 20))
    counts = dict.fromkeys(["the", "cat", "sat", "a", "dog", "ran", "home"], 20)
    corpus = lm_corpus.Corpus(text, 40, 40, 540, 0, counts)
    recipe = ngrams.Recipe("word", 5, (), discount_fallback=True)
    found = kenlm_programs.estimate(programs, tmp_path, corpus, ["the", "cat", "sat"], recipe, "64M", "inputs")
    assert found.ngrams[0] == 6 and "home" not in found.arpa.read_text(encoding="utf-8")
    receipt = programs.lmplz.parents[1] / "built.txt"
    if receipt.is_file() and "patched" in receipt.read_text(encoding="utf-8"):  # the program itself, not our way round
        command = [programs.lmplz, "-o", "5", "-S", "64M", "--discount_fallback", "--arpa", tmp_path / "again.arpa"]
        command += ["--limit_vocab_file", tmp_path / "vocabulary.txt"]
        subprocess.run(command, input=gzip.decompress(text.read_bytes()), check=True, capture_output=True)


def test_models_of_a_corpus_and_letters_without_spaces(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = {"eng": ["the cat sat", "a dog ran home"], "jpn": ["はしがすきです", "やさいあおい", "すきですか"]}
    corpus = write_corpus(tmp_path, lines)
    assert call(corpus, tmp_path / "lms", "--from-manifests") == 0
    said = capsys.readouterr().out
    highest = kenlm_programs.highest_order_read(15)
    assert read_order(tmp_path / "lms" / "jpn" / "lm.bin") == min(15, highest)
    assert (f"jpn: letter {highest}-grams\n  15-grams in the paper; lowered" in said) == (highest < 15)
    assert read_vocabulary(tmp_path / "lms" / "jpn" / "lm.bin") == {
        *"はしがすきでやいあおさか|",
        "<s>",
        "</s>",
        "<unk>",
    }
    assert not (tmp_path / "lms" / "jpn" / "lexicon.txt").exists()
    assert (tmp_path / "lms" / "eng" / "lexicon.txt").exists()
    document = json.loads((tmp_path / "lms" / "jpn" / "lm.json").read_text(encoding="utf-8"))
    assert document["pruning"] == [] and document["paper_order"] == 15
    assert "--discount_fallback: too few rare n-grams" in said


def test_sentencepiece_units_spell_the_lexicon_and_make_the_tokens(tmp_path: Path, programs: Programs) -> None:
    pytest.importorskip("sentencepiece")
    corpus = write_corpus(
        tmp_path, {"eng": ["the cat sat", "the dog sat home"], "jpn": ["はしがすきです", "すきですか"]}
    )
    assert build_units.main([str(corpus), "--vocab-size", "16"]) == 0
    assert call(corpus, tmp_path / "lms", "--from-manifests", "--units", "sentencepiece") == 0
    units = read_units(corpus / "eng" / "units.model")
    for line in (tmp_path / "lms" / "eng" / "lexicon.txt").read_text(encoding="utf-8").splitlines():
        word, spelling = line.split("\t")
        assert spelling.split() == units.encode(word) and units.decode(spelling.split()) == word
    known = read_vocabulary(tmp_path / "lms" / "jpn" / "lm.bin")
    pieces = read_units(corpus / "jpn" / "units.model").encode("すきですか")
    assert known and known >= set(pieces) and len(pieces) < 6


@pytest.mark.slow
def test_a_checkpoint_knows_its_units(
    tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str], english: tuple[Path, Path]
) -> None:
    """Adapters of pieces and of letters give the lexicons that their dictionaries give, wherever the manifests are."""
    pytest.importorskip("sentencepiece")
    adapter_files = pytest.importorskip("mms_recipes.adapter_files")
    stacks = pytest.importorskip("mms_recipes.models.adapters")
    corpus = write_corpus(tmp_path, {"eng": ["the cat sat", "the dog sat home"], "spa": ["el gato", "un perro"]})
    assert build_units.main([str(corpus), "--vocab-size", "16"]) == 0
    made_with = {"eng": UnitKind.sentencepiece, "spa": UnitKind.letters}
    for lang, kind in made_with.items():
        rows = [*SPECIAL_TOKENS, *read_dictionary(corpus / lang / kind.dictionary)]
        units = folder_units(corpus / lang, kind)
        stack = stacks.AdapterStack([lang], [len(rows)], 1, 8, 2)
        stack.reset(1, "kaiming")
        tensors = stack.language_state(lang)
        adapter_files.write_adapter(
            tmp_path, adapter_files.Adapter(lang, "0" * 16, rows, 1, None, tensors, units=units)
        )
    assert call(corpus, tmp_path / "lms", "--from-manifests", "--checkpoint", tmp_path) == 0
    for lang, kind in made_with.items():
        assert call(corpus, tmp_path / kind, "--from-manifests", "--units", kind, "--langs", lang) == 0
        lexicon = Path(lang) / "lexicon.txt"
        assert (tmp_path / "lms" / lexicon).read_text() == (tmp_path / kind / lexicon).read_text() != ""
    capsys.readouterr()
    assert call(corpus, tmp_path / "lms", "--from-manifests", "--checkpoint", tmp_path) == 0
    assert capsys.readouterr().out.count("finished before") == 2
    told = "--checkpoint says by itself which units there are"
    for options in (["--units", "sentencepiece"], ["--dictionary", english[1]]):
        assert call(english[0], tmp_path / "lms", "--lang", "eng", "--checkpoint", tmp_path, *options) == 1
        assert told in capsys.readouterr().err
    assert call(english[0], tmp_path / "lms", "--lang", "fra", "--checkpoint", tmp_path) == 1
    assert "fra.safetensors: no such file; give text with a sentence a line, and adapters or" in capsys.readouterr().err


def test_units_that_were_not_built(tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_corpus(tmp_path, {"eng": ["the cat sat"]})
    assert call(corpus, tmp_path / "lms", "--from-manifests", "--units", "sentencepiece") == 1
    told = "dict.units.txt: no such file; give text with a sentence a line, and dict.units.txt, which comes from tools"
    assert told in capsys.readouterr().err


def test_what_is_finished_is_skipped_until_something_changes(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text, dictionary = english
    command = [text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary]
    model = tmp_path / "lms" / "eng" / "lm.bin"
    assert call(*command) == 0
    made = model.stat().st_mtime_ns
    capsys.readouterr()
    assert call(*command) == 0
    assert "finished before" in capsys.readouterr().out and model.stat().st_mtime_ns == made
    (model.parent / "decoding.json").write_text("{}", encoding="utf-8")
    text.write_text(text.read_text(encoding="utf-8") + "Again the man.\n", encoding="utf-8")
    assert call(*command) == 0
    assert "finished before" not in (said := capsys.readouterr().out) and model.stat().st_mtime_ns != made
    # weights that were tuned for another model are not taken for this one's
    assert "tune again" in said and not (model.parent / "decoding.json").exists()


def test_several_processes_give_the_same_text(
    english: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_corpus, "IN_PROCESS", 0)
    monkeypatch.setattr(lm_text, "BLOCK_BYTES", 500)
    text, _ = english
    found = []
    for jobs in (1, 2):
        corpus = lm_corpus.prepare(tmp_path / f"work{jobs}", [text, text], "eng", None, "mms-1", "", jobs)
        found.append((gzip.decompress(corpus.text.read_bytes()), corpus.lines, corpus.counts))
    assert found[0] == found[1] and found[0][1] == 600


# ---- errors


def test_text_without_usable_lines(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "numbers.txt"
    text.write_text("12 34\n😀\n\n", encoding="utf-8")
    assert call(text, tmp_path / "lms", "--lang", "eng", "--dictionary", english[1]) == 1
    assert "numbers.txt: 0 usable lines of 3" in capsys.readouterr().err
    text.write_text("", encoding="utf-8")
    assert call(text, tmp_path / "lms", "--lang", "eng", "--dictionary", english[1]) == 1
    assert "0 usable lines of 0" in capsys.readouterr().err


def test_words_outside_the_dictionary_are_listed_and_dropped_on_request(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text, dictionary = english
    foreign = [f"naïve{letter}" for letter in "abcdefghijkl"]
    text.write_text(text.read_text(encoding="utf-8") + (" ".join(foreign) + "\n") * 3, encoding="utf-8")
    command = [text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary]
    assert call(*command) == 1
    said = capsys.readouterr().err
    assert f"12 of {len(WORDS) + 12} words" in said and "naïvea (v ï)" in said.replace("(ï v)", "(v ï)")
    assert said.count("naïve") == ngrams.SHOWN and "--drop-oov" in said
    assert not (tmp_path / "lms" / "eng" / "lm.bin").exists()
    assert call(*command, "--drop-oov") == 0
    assert "left out (--drop-oov)" in capsys.readouterr().out
    folder = tmp_path / "lms" / "eng"
    assert "naïve" not in (folder / "lexicon.txt").read_text(encoding="utf-8")
    known = read_vocabulary(folder / "lm.bin")
    assert known and known.isdisjoint(foreign)
    assert json.loads((folder / "lm.json").read_text(encoding="utf-8"))["outside_dictionary"] == 12


@pytest.mark.parametrize("kind", ["word", "letter"])
def test_text_of_another_script(
    kind: str, english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "russian.txt"
    text.write_text("съешь же ещё\n" * 5, encoding="utf-8")
    command = [text, tmp_path / "lms", "--lang", "eng", "--dictionary", english[1], "--kind", kind, "--order", 5]
    assert call(*command, "--drop-oov") == 1
    assert "spells nothing of the text" in capsys.readouterr().err


def test_a_dictionary_without_the_word_mark(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dictionary(tmp_path / "dict.txt", {"a": 1, "b": 2})
    assert call(english[0], tmp_path / "lms", "--lang", "eng", "--dictionary", tmp_path / "dict.txt") == 1
    assert "dict.txt: has no '|'" in capsys.readouterr().err


def test_an_order_that_cannot_be_read_is_refused_before_anything_is_built(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    text, dictionary = english
    highest = kenlm_programs.highest_order_read(50)
    command = [text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--order"]
    assert call(*command, 50) == 1
    said = capsys.readouterr().err
    assert "--order 50" in said and "takes models up to order" in said and not (tmp_path / "lms").exists()
    assert call(*command, highest + 1) == 1
    assert f"--order {highest + 1}: " in (said := capsys.readouterr().err) and f"up to order {highest} here" in said
    assert call(*command, 1) == 1
    assert "expected 2 or more" in capsys.readouterr().err
    assert call(*command, 4, "--highest-order", 3) == 1
    assert "takes models up to order 3" in capsys.readouterr().err


def test_a_model_of_the_highest_order_is_read_and_one_above_is_not(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs
) -> None:
    decoder = pytest.importorskip("flashlight.lib.text.decoder.kenlm")
    dictionary_module = pytest.importorskip("flashlight.lib.text.dictionary")
    text, dictionary = english
    highest = kenlm_programs.highest_order_read(50)
    if kenlm_programs.highest_order_written(programs, 50) <= highest:
        pytest.skip("build_binary writes no higher order than flashlight-text reads: this test did NOT run")
    for order in (highest, highest + 1):
        command = [text, tmp_path / f"{order}", "--lang", "eng", "--dictionary", dictionary, "--kind", "letter"]
        assert call(*command, "--order", order, "--highest-order", order) == 0
    letters = dictionary_module.Dictionary()
    letters.add_entry("|")
    decoder.KenLM(str(tmp_path / f"{highest}" / "eng" / "lm.bin"), letters)
    with pytest.raises(RuntimeError, match=f"support up to {highest}"):
        decoder.KenLM(str(tmp_path / f"{highest + 1}" / "eng" / "lm.bin"), letters)


def fake_programs(folder: Path, programs: Programs, **scripts: str) -> Path:
    """Return a folder of KenLM's programs of which some are shell scripts instead."""
    folder.mkdir()
    for name in ("lmplz", "build_binary"):
        if name in scripts:
            (folder / name).write_text(f"#!/bin/sh\n{scripts[name]}\n", encoding="utf-8")
            (folder / name).chmod(stat.S_IRWXU)
        else:
            (folder / name).symlink_to(getattr(programs, name))
    return folder


def test_a_program_that_fails_is_quoted_and_the_next_run_goes_on(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text, dictionary = english
    command = [text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--kenlm"]
    killed = fake_programs(tmp_path / "killed", programs, lmplz="echo so far >&2; kill -9 $$")
    assert call(*command, killed) == 1
    assert "lmplz failed (killed by signal 9)" in (said := capsys.readouterr().err) and "so far" in said
    full = fake_programs(tmp_path / "full", programs, build_binary="echo No space left on device >&2; exit 3")
    assert call(*command, full) == 1
    assert "build_binary failed (exit code 3)" in (said := capsys.readouterr().err) and "No space left" in said
    folder = tmp_path / "lms" / "eng"
    assert not (folder / "lm.bin").exists() and not (folder / "lm.json").exists()
    arpa = (folder / "work" / "lm.arpa").stat().st_mtime_ns
    # what is done is not done again: this lmplz would fail
    rest = fake_programs(tmp_path / "rest", programs, lmplz="exit 1")
    assert call(*command, rest) == 0
    assert arpa and (folder / "lm.bin").is_file() and not (folder / "work").exists()


def test_lmplz_is_run_again_when_it_asks_for_fallback_discounts(
    tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.gz"
    text.write_bytes(gzip.compress(b"a b a b\n" * 30))
    corpus = lm_corpus.Corpus(text, 30, 30, 240, 0, {"a": 60, "b": 60})
    recipe = ngrams.Recipe("word", 3, (), discount_fallback=False)
    found = kenlm_programs.estimate(programs, tmp_path, corpus, ["a", "b"], recipe, "64M", "inputs")
    assert "run again" in capsys.readouterr().out and 1 in found.discount_fallback and len(found.ngrams) == 3


def test_what_is_missing_is_named(
    english: tuple[Path, Path], tmp_path: Path, programs: Programs, capsys: pytest.CaptureFixture[str]
) -> None:
    text, dictionary = english
    for command, said in (
        ([text, tmp_path / "lms"], "--lang, and --dictionary or --checkpoint"),
        ([tmp_path / "no.txt", tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary], "no.txt: no such file"),
        ([text, tmp_path / "lms", "--lang", "engl", "--dictionary", dictionary], "unknown language"),
        ([tmp_path / "none", tmp_path / "lms", "--from-manifests"], "no manifests"),
        ([text, text, tmp_path / "lms", "--from-manifests"], "one folder of manifests"),
        ([text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--prune", "2 1"], "--prune '2 1'"),
        (
            [text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--vocabulary", 0],
            "expected 1 or more",
        ),
        ([text, tmp_path / "lms", "--lang", "eng", "--dictionary", dictionary, "--kenlm", tmp_path], "build_kenlm"),
    ):
        assert call(*command) == 1
        assert said in capsys.readouterr().err


def test_programs_are_found_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kenlm_programs, "CHECKOUT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make kenlm"):
        kenlm_programs.find_programs(None)
    for name in ("lmplz", "build_binary"):
        (tmp_path / name).touch(mode=0o755)
    assert kenlm_programs.find_programs(None).lmplz == tmp_path / "lmplz"
    (tmp_path / ".kenlm" / "bin").mkdir(parents=True)
    for name in ("lmplz", "build_binary"):
        (tmp_path / ".kenlm" / "bin" / name).touch(mode=0o755)
    assert kenlm_programs.find_programs(None).lmplz == tmp_path / ".kenlm" / "bin" / "lmplz"
    assert kenlm_programs.find_programs(tmp_path).build_binary == tmp_path / "build_binary"


# ---- KenLM's own programs


@pytest.mark.parametrize("name", ["../outside", "/outside", "kenlm/../../outside", "outside"])
def test_an_archive_that_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("kenlm/good.txt"))
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ValueError, match="refused"):
        build_kenlm.unpack(archive, tmp_path / "a" / "source")
    assert not (tmp_path / "outside").exists() and not (tmp_path / "a" / "source").exists()


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "source.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("kenlm/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(ValueError, match="refused 'kenlm/link'"):
        build_kenlm.unpack(archive, tmp_path / "source")


def test_without_a_compiler_it_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build_kenlm.main([str(tmp_path / "kenlm")]) == 1
    assert "no C++ compiler found (c++, g++, clang++)" in capsys.readouterr().err
    assert build_kenlm.main([str(tmp_path / "kenlm"), "--max-order", "1"]) == 1
    assert "an order of 2 to 99" in capsys.readouterr().err
    assert not (tmp_path / "kenlm").exists()


def test_a_step_that_fails_shows_its_last_lines() -> None:
    with pytest.raises(OSError, match=r"(?s)the compiler failed \(exit code 2\).*fatal error"):
        build_kenlm.call(["sh", "-c", "echo 'fatal error: x'; exit 2"], "the compiler")


def test_programs_that_do_not_start_are_not_taken_for_built(tmp_path: Path) -> None:
    broken = tmp_path / "lmplz"
    assert not build_kenlm.runs(broken)
    broken.write_bytes(b"\x7fELF half of it")
    broken.chmod(0o755)
    assert not build_kenlm.runs(broken)
