"""Everything that can be wrong with prepared manifests is found, named with its place, and raised at once."""

import functools
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import build_units
import numpy as np
import pytest
import soundfile
import validate_manifests
from hypothesis import given
from hypothesis import strategies as st

from mms_recipes import manifest, units
from mms_recipes.corpora import problems, validation
from mms_recipes.manifest import Utterance
from mms_recipes.text import to_words
from mms_recipes.unit_kinds import UnitKind

Spoil = Callable[[Path], None]
SECOND = 16_000


def speak(path: Path, num_samples: int, rate: int = SECOND, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(num_samples)
    soundfile.write(path, rng.normal(scale=0.1, size=(num_samples, channels)), rate)


def build(folder: Path, lang: str = "eng", suffix: str = "wav") -> Path:
    """Write a sound corpus: train of 3, dev of 2, test of 1 utterances of about a second."""
    for split, size in (("train", 3), ("dev", 2), ("test", 1)):
        rows = []
        for number in range(size):
            name, num_samples = f"audio/{split}/{split}{number}.{suffix}", SECOND + number
            speak(folder / lang / name, num_samples)
            rows.append(Utterance(name, num_samples, "a b | c |", "ab c", f"{lang}_{split}_{split}{number}"))
        manifest.write_split(folder / lang, split, folder / lang, rows)
    counts = manifest.count_letters([folder / lang / "train.ltr"])
    manifest.write_dictionary(folder / lang / "dict.ltr.txt", counts)
    return folder


def edit(name: str, line: int, new: str | None) -> Spoil:
    """Return a function that replaces a line (counted from 1) of a file of eng, or takes it out."""

    def spoil(folder: Path) -> None:
        path = folder / "eng" / name
        lines = path.read_text().splitlines()
        lines[line - 1 : line] = [] if new is None else [new]
        path.write_text("".join(f"{text}\n" for text in lines))

    return spoil


def relabel(split: str, line: int, letters: str) -> Spoil:
    """Return a function that gives an utterance of eng other letters, and the words that they spell."""

    def spoil(folder: Path) -> None:
        edit(f"{split}.ltr", line, letters)(folder)
        edit(f"{split}.wrd", line, to_words(letters))(folder)

    return spoil


def remove(name: str) -> Spoil:
    return lambda folder: (folder / "eng" / name).unlink()


def respeak(name: str, num_samples: int, rate: int = SECOND, channels: int = 1) -> Spoil:
    return lambda folder: speak(folder / "eng" / "audio" / name, num_samples, rate, channels)


def cut(name: str, keep: int) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "eng" / "audio" / name
        path.write_bytes(path.read_bytes()[:keep])

    return spoil


def shard(form: str, shift: int = 0, compression: int = zipfile.ZIP_STORED) -> Spoil:
    """Return a function that puts train1 of eng into a shard; its row points `shift` bytes off."""

    def spoil(folder: Path) -> None:
        audio, path = folder / "eng" / "audio" / "train" / "train1.wav", folder / "eng" / f"shard.{form}"
        size = audio.stat().st_size
        if form == "tar":
            with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
                tar.add(audio, "train1.wav")
            offset = tarfile.BLOCKSIZE
        else:
            with zipfile.ZipFile(path, "w", compression) as archive:
                archive.write(audio, "train1.wav")
                size, offset = archive.infolist()[0].compress_size, 30 + len("train1.wav")
        edit("train.tsv", 3, f"shard.{form}:{offset + shift}:{size}\t{SECOND + 1}")(folder)
        edit("train.uid", 2, "eng_train_train1")(folder)

    return spoil


def test_sound_manifests_pass(tmp_path: Path) -> None:
    report = validation.validate(build(build(tmp_path), "fra"))
    assert report.problems() == report.notes() == []
    report.raise_if_bad()
    assert report.amounts["eng", "train"] == (3, (3 * SECOND + 3) / SECOND)
    assert list(report.amounts) == [(lang, split) for lang in ("eng", "fra") for split in validation.SPLITS]


CASES = [
    (remove("dev.tsv"), "no manifest", r"eng/dev.tsv: no such file; prepare the corpus with tools/prepare_fleurs.py"),
    (edit("dev.tsv", 2, "x 5"), "malformed manifest", r"eng/dev.tsv:2: found 'x 5', expected a path, a tab"),
    (edit("train.ltr", 3, None), "labels do not match", r"eng/train.ltr:3: 2 labels for 3 utterances in train.tsv; re"),
    (edit("train.wrd", 3, "a\na"), "labels do not match", r"eng/train.wrd:4: 4 labels for 3 utterances in train.tsv"),
    (
        edit("test.uid", 1, None),
        "labels do not match",
        r"eng/test.uid:1: 0 labels for 1 utterances in test.tsv; rebuild",
    ),
    (remove("test.wrd"), "labels do not match", r"eng/test.wrd: no such file; rebuild it with the tool"),
    (remove("dict.ltr.txt"), "no dictionary", r"eng/dict.ltr.txt: no such file"),
    (edit("dict.ltr.txt", 1, "a"), "no dictionary", r"eng/dict.ltr.txt:1: found 'a', expected a unit"),
    (
        remove("audio/train/train1.wav"),
        "missing audio",
        r"eng/train.tsv:3: .*train1.wav: no such file; restore the file",
    ),
    (cut("train/train1.wav", 20), "unreadable audio", r"eng/train.tsv:3: .*train1.wav: .*; restore the file"),
    (cut("dev/dev0.wav", 0), "unreadable audio", r"eng/dev.tsv:2: .*dev0.wav: .*; restore the file"),
    (cut("dev/dev0.wav", 44), "empty audio", r"eng/dev.tsv:2: .*dev0.wav: the file holds no samples; take the utter"),
    (
        cut("dev/dev1.wav", 20_044),
        "wrong length",
        r"eng/dev.tsv:3: .*: 10000 samples, but the manifest says 16001; the f",
    ),
    (
        respeak("test/test0.wav", SECOND + 9),
        "wrong length",
        r"eng/test.tsv:2: .*: 16009 samples, but the manifest says 16",
    ),
    (
        respeak("test/test0.wav", 8000, 8000),
        "wrong sample rate",
        r"eng/test.tsv:2: .*: 8000 Hz, expected 16000; prepare",
    ),
    (
        respeak("test/test0.wav", SECOND, channels=2),
        "not mono",
        r"eng/test.tsv:2: .*: 2 channels, expected 1; prepare the",
    ),
    (
        edit("train.tsv", 3, f"shard.tar:512:32046\t{SECOND + 1}"),
        "missing audio",
        r"eng/train.tsv:3: .*shard.tar:512:32046: no shard .*shard.tar; restore the file",
    ),
    (
        shard("tar", shift=-512),
        "not in its shard",
        r"eng/train.tsv:3: .*shard.tar:0:32046: expected the header of a file of 32046 bytes before it, found none .*; "
        r"the shard was cut or replaced since its index was written: restore it, or pack again with tools/pack_shards",
    ),
    (
        shard("zip", compression=zipfile.ZIP_DEFLATED),
        "compressed in its shard",
        r"eng/train.tsv:3: .*shard.zip:40:[0-9]+: method 8, expected 0, .*; pack again with tools/pack_shards.py",
    ),
    (
        edit("train.tsv", 4, "audio/train/train2.wav\t0"),
        "empty audio",
        r"eng/train.tsv:4: 0 samples; take the utterance",
    ),
    (
        edit("train.wrd", 3, "a bc"),
        "letters and words differ",
        r"eng/train.ltr:3 and .*eng/train.wrd:3: the letters spell 'ab c', the words are 'a bc'; they are of two texts",
    ),
    (edit("train.ltr", 2, ""), "empty labels", r"eng/train.ltr:2: no letters; take the utterance out"),
    (edit("dev.ltr", 2, "|"), "empty labels", r"eng/dev.ltr:2: no letters"),
    (
        relabel("train", 2, "a b | ü \u0301 c |"),
        "letters outside the dictionary",
        r"eng/train.ltr:2: 'ü' \(U\+00FC\) '\u0301' \(U\+0301\); use the dictionary that was made with these manifests",
    ),
    (
        relabel("train", 1, "a a b " * 13 + "|"),
        "too long for its audio",
        r"eng/train.ltr:1: letters and repeats need 53 frames, the audio has 49; CTC cannot emit this",
    ),
    (
        edit("train.uid", 3, "eng_train_train0"),
        "duplicate",
        r"eng/train.tsv:4: same id as .*eng/train.tsv:2; take one of",
    ),
    (
        edit("train.tsv", 4, "audio/train/train0.wav\t16000"),
        "duplicate",
        r"eng/train.tsv:4: same file as .*eng/train.tsv:2; take one of them out",
    ),
    (
        edit("dev.uid", 1, "eng_train_train0"),
        "in two splits",
        r"eng/dev.tsv:2: same id as .*eng/train.tsv:2; take it out",
    ),
    (
        edit("dev.tsv", 2, "audio/train/train0.wav\t16000"),
        "in two splits",
        r"eng/dev.tsv:2: same file as .*eng/train.tsv:2; take it out of one of them, or the scores mean nothing",
    ),
]


def replace_units(name: str, text: str) -> Spoil:
    """Return a function that puts the units of another text (of a language, or of a time) in the place of eng's."""

    def spoil(folder: Path) -> None:
        model, counts = units.train_units([text] * 3, 8)
        content = model.model if name == "units.model" else "".join(f"{unit} 1\n" for unit in counts).encode()
        (folder / "eng" / name).write_bytes(content)

    return spoil


PIECES_CASES: list[tuple[Spoil, str, str]] = [
    (remove("dev.units"), "labels do not match", r"eng/dev.units: no such file; rebuild it with tools/build_units.py"),
    (
        edit("train.units", 3, None),
        "labels do not match",
        r"eng/train.units:3: 2 labels for 3 utterances in train.tsv; rebuild them with tools/build_units.py",
    ),
    (remove("dict.units.txt"), "no dictionary", r"dict.units.txt: no such file; rebuild it with tools/build_units.py"),
    (remove("units.model"), "no dictionary", r"eng/units.model: no such file; build it with tools/build_units.py"),
    (
        edit("dev.units", 1, "ab| c|"),
        "stale units",
        r"eng/dev.units:1: found 'ab\| c\|', expected 'a b \| c\|', as units.model spells 'ab c'; build",
    ),
    (edit("train.wrd", 1, "ab cc"), "stale units", r"eng/train.units:1: found .* as units.model spells 'ab cc'"),
    (edit("train.wrd", 1, "a|b"), "stale units", r"eng/train.units:1: found .* as units.model spells 'a\|b'"),
    (
        replace_units("dict.units.txt", "ab c ab cd"),
        "stale units",
        r"eng/dict.units.txt and .*units.model: \d+ pieces are not in both, such as '",
    ),
    (
        replace_units("units.model", "длин текст"),
        "stale units",
        r"eng/dict.units.txt and .*units.model: \d+ pieces are",
    ),
    (replace_units("dict.units.txt", "длин текст"), "stale units", r"eng/train.units:1: 'a' \(U\+0061\) 'b' \("),
]


def build_pieces(folder: Path) -> Path:
    build(folder)
    assert build_units.main([str(folder), "--vocab-size", "8"]) == 0
    return folder


@pytest.mark.parametrize(("spoil", "kind", "message"), PIECES_CASES)
def test_each_problem_of_pieces_is_found(tmp_path: Path, spoil: Spoil, kind: str, message: str) -> None:
    pytest.importorskip("sentencepiece")
    spoil(build_pieces(tmp_path))
    report = validation.validate(tmp_path, ["eng"], kind=UnitKind.sentencepiece)
    assert kind in report.counts
    with pytest.raises(problems.ManifestError, match=message):
        report.raise_if_bad()
    if "spells" not in message or "dev" in message:  # who uses letters is not concerned
        assert not validation.validate(tmp_path, ["eng"], kind=UnitKind.letters).counts


def test_sound_pieces_pass_also_with_the_union_of_languages(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    build(tmp_path, "fra")
    (tmp_path / "fra" / "train.wrd").write_text("de\ndef\ndef de\n")
    build_pieces(tmp_path)
    union = tmp_path / "dict.units.txt"
    assert validation.validate(tmp_path, kind=UnitKind.sentencepiece).problems() == []
    assert validation.validate(tmp_path, kind=UnitKind.sentencepiece, dictionary=union).problems() == []
    union.write_text("".join(line for line in union.open() if not line.startswith("d")))
    found = validation.validate(tmp_path, kind=UnitKind.sentencepiece, dictionary=union)
    assert set(found.counts) - set(problems.NOTES) == {"stale units"}
    assert "fra/units.model" in "".join(found.problems())


@pytest.mark.parametrize(("spoil", "kind", "message"), CASES)
def test_each_problem_is_found_alone(tmp_path: Path, spoil: Spoil, kind: str, message: str) -> None:
    spoil(build(tmp_path))
    report = validation.validate(tmp_path, ["eng"], validation.SPLITS)
    assert set(report.counts) == {kind}
    with pytest.raises(problems.ManifestError, match=rf"\d+ to mend in the manifests:\n.*{message}"):
        report.raise_if_bad()


def test_every_kind_of_problem_has_its_case() -> None:
    kinds = {kind for _, kind, _ in [*CASES, *PIECES_CASES]}
    assert kinds | set(problems.NOTES) | {"no utterances"} == set(problems.REMEDIES)


def test_a_split_without_utterances_is_named(tmp_path: Path) -> None:
    manifest.write_split(build(tmp_path) / "eng", "dev", tmp_path, [])
    report = validation.validate(tmp_path)
    assert report.problems() == [
        f"{tmp_path}/eng/dev.tsv; leave the language out, or look in prepared.json why all were left out"
    ]


def test_a_copy_under_another_folder_and_id_is_found_across_splits(tmp_path: Path) -> None:
    folder = build(tmp_path) / "eng"
    speak(folder / "audio" / "dev" / "train0.wav", SECOND)
    edit("dev.tsv", 2, f"audio/dev/train0.wav\t{SECOND}")(tmp_path)
    report = validation.validate(tmp_path)
    assert report.problems() == [
        f"{folder}/dev.tsv:2: same file name, length and words as {folder}/train.tsv:2; "
        "take it out of one of them, or the scores mean nothing"
    ]
    relabel("dev", 1, "a | b c |")(tmp_path)
    assert validation.validate(tmp_path).problems() == []


@pytest.mark.parametrize(
    ("spoil", "note"),
    [
        (relabel("dev", 2, "x a |"), r"eng/dev.ltr:2: 'x' \(U\+0078\); they cannot be recognised and count as errors"),
        (
            relabel("test", 1, "a " * 50),
            r"eng/test.ltr:1: letters and repeats need 99 frames, the audio has 49; it cann",
        ),
    ],
)
def test_what_dev_and_test_may_have_is_a_note(tmp_path: Path, spoil: Spoil, note: str) -> None:
    spoil(build(tmp_path))
    report = validation.validate(tmp_path)
    report.raise_if_bad()
    assert report.num_problems() == 0
    assert len(report.notes()) == 1
    assert re.search(note, report.notes()[0])


def test_all_problems_are_raised_at_once_with_counts(tmp_path: Path) -> None:
    folder = build(tmp_path) / "eng"
    rows = [Utterance(f"{n}.wav", SECOND, "a |", "a", f"u{n}") for n in range(12)]
    manifest.write_split(folder, "train", folder, rows)
    edit("dev.ltr", 1, "")(tmp_path)
    with pytest.raises(problems.ManifestError) as error:
        validation.validate(tmp_path).raise_if_bad()
    lines = str(error.value).splitlines()
    assert lines[0] == "13 to mend in the manifests:"
    assert len([line for line in lines if "no such file" in line]) == 5
    assert "... and 7 more of this kind (missing audio: 12)" in lines
    assert any("dev.ltr:1: no letters" in line for line in lines)
    assert isinstance(error.value, ValueError)


def test_languages_that_are_asked_must_be_there(tmp_path: Path) -> None:
    build(tmp_path)
    report = validation.validate(tmp_path, ["eng", "fra"], ["train", "dev"])
    assert [line.partition(": ")[0] for line in report.problems()] == [
        f"{tmp_path}/fra/{s}.tsv" for s in ("train", "dev")
    ]
    assert validation.validate(tmp_path, ["fra"]).counts == {"no manifest": 1}
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: no manifests, expected .*/<lang>/train.tsv; prepare the corpus"
    ):
        validation.validate(tmp_path / "nowhere")


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_audio_in_shards_passes(tmp_path: Path, form: str) -> None:
    shard(form)(build(tmp_path))
    (tmp_path / "eng" / "audio" / "train" / "train1.wav").unlink()
    assert validation.validate(tmp_path).problems() == []


def test_a_copy_in_a_shard_is_found_across_splits(tmp_path: Path) -> None:
    """Places in shards are all different, so the file's name is taken from the id."""
    shard("tar")(build(tmp_path))
    folder = tmp_path / "eng"
    (folder / "other.tar").write_bytes((folder / "shard.tar").read_bytes())
    edit("dev.tsv", 2, f"other.tar:512:32046\t{SECOND + 1}")(tmp_path)
    edit("dev.uid", 1, "eng_dev_train1")(tmp_path)
    assert validation.validate(tmp_path).problems() == [
        f"{folder}/dev.tsv:2: same file name, length and words as {folder}/train.tsv:3; "
        "take it out of one of them, or the scores mean nothing"
    ]


def test_how_much_audio_is_opened(tmp_path: Path) -> None:
    remove("audio/train/train0.wav")(build(tmp_path))
    remove("audio/train/train2.wav")(tmp_path)
    count = functools.partial(validation.validate, tmp_path)
    assert count(check_audio="all").counts == {"missing audio": 2}
    assert count(check_audio="first").counts == {"missing audio": 1}
    assert count(check_audio="none").counts == {}


def test_the_rows_of_a_later_block_of_audio_have_their_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "PROBES_AT_ONCE", 2)
    remove("audio/train/train2.wav")(build(tmp_path))
    assert "train.tsv:4: " in validation.validate(tmp_path).problems()[0]


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_cut_compressed_audio_is_found_though_its_header_is_whole(tmp_path: Path, suffix: str) -> None:
    path = build(tmp_path, suffix=suffix) / "eng" / "audio" / "train" / f"train1.{suffix}"
    assert validation.validate(tmp_path).problems() == []
    path.write_bytes(path.read_bytes()[:-2000])
    problems = validation.validate(tmp_path).problems()
    assert len(problems) == 1 and f"train1.{suffix}" in problems[0]


def test_manifests_without_labels_can_be_checked(tmp_path: Path) -> None:
    build(tmp_path)
    for suffix in manifest.LABEL_SUFFIXES:
        remove(f"train.{suffix}")(tmp_path)
    assert validation.validate(tmp_path, splits=["train"], labelled=False).problems() == []
    assert validation.validate(tmp_path, splits=["train"]).counts == {"labels do not match": 1}


def test_one_dictionary_can_stand_for_all(tmp_path: Path) -> None:
    remove("dict.ltr.txt")(build(tmp_path))
    manifest.write_dictionary(tmp_path / "all.txt", {"a": 1, "b": 1, "|": 1})
    report = validation.validate(tmp_path, dictionary=tmp_path / "all.txt")
    assert set(report.counts) == {"letters outside the dictionary", "letters that only dev or test have"}


def test_the_table_shows_hours(tmp_path: Path) -> None:
    report = problems.Report()
    report.amounts = {
        ("eng", "train"): (1234, 3600.0),
        ("azj-script_latin", "train"): (1, 1800),
        ("eng", "dev"): (2, 36),
    }
    assert report.table().splitlines() == [
        "language               train     hours         dev     hours",
        "eng                    1,234      1.00           2      0.01",
        "azj-script_latin           1      0.50           0      0.00",
        "all                    1,235      1.50           2      0.01",
    ]


def ctc_can_emit(letters: list[str], frames: int) -> bool:
    """Say by brute force whether any path of so many frames, blanks included, collapses to these letters."""
    states = {(0, False)}  # letters emitted, last frame was that letter
    for _ in range(frames):
        new = set()
        for done, on_letter in states:
            new.add((done, False))
            if on_letter:
                new.add((done, True))
            if done < len(letters) and not (on_letter and letters[done] == letters[done - 1]):
                new.add((done + 1, True))
        states = new
    return any(done == len(letters) for done, _ in states)


@given(st.lists(st.sampled_from(["a", "b", "|"]), min_size=1, max_size=8))
def test_frames_needed_are_the_least_that_ctc_can_do_with(letters: list[str]) -> None:
    needed = validation.frames_needed(" ".join(letters))
    assert ctc_can_emit(letters, needed)
    assert not ctc_can_emit(letters, needed - 1)


def test_the_command_prints_hours_and_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path)
    assert validate_manifests.main([str(tmp_path)]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    relabel("dev", 1, "x |")(tmp_path)
    edit("train.ltr", 1, "")(tmp_path)
    assert validate_manifests.main([str(tmp_path), "--langs", "eng", "--splits", "train,dev", "--audio", "none"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["language", "train", "hours", "dev", "hours"]
    assert out[-1] == "1 to mend"
    assert any(line.startswith("note: ") and "dev.ltr:1" in line for line in out)
    assert any(line.startswith("problem: ") and "train.ltr:1" in line for line in out)
    assert validate_manifests.main([str(tmp_path), "--langs", "english"]) == 1
    assert "unknown language or set 'english'" in capsys.readouterr().err
    assert validate_manifests.main([str(tmp_path / "nowhere")]) == 1
    assert "no manifests" in capsys.readouterr().err
