"""Corpora become manifests: FLEURS's layout and folders with a table, whole, hostile and broken."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import prepare_fleurs
import prepare_folder
import pytest
import soundfile

from mms_recipes import audio_files, manifest
from mms_recipes.corpora import preparation, validation
from tests.unit import disks

RATE = 16_000
Row = tuple[str, str, str]  # file name, raw, transcription
ROWS: dict[str, list[Row]] = {
    "train": [
        ("1.wav", 'He said: "Go!"', 'he said go "now'),
        ("2.wav", "It is 5.", "it is 5"),
        ("3.wav", "Zoo", "zoo"),
    ],
    "dev": [("4.wav", "Ünd", "ünd")],
    "test": [("5.wav", "Hi.", "hi")],
}


def audio(num_samples: int = RATE, rate: int = RATE, channels: int = 1, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(num_samples).normal(scale=0.1, size=(num_samples, channels))
    soundfile.write(file, samples, rate, format=kind)
    return file.getvalue()


def pack(path: Path, members: Iterable[tuple[str | tarfile.TarInfo, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def corpus(src: Path, code: str = "en_us", packed: bool = True, rows: dict[str, list[Row]] = ROWS) -> Path:
    """Write a small corpus in FLEURS's layout; the audio of n.wav has 16000 + n samples."""
    for split, split_rows in rows.items():
        folder = src / "data" / code
        contents = [(name, audio(RATE + int(Path(name).stem))) for name, _, _ in split_rows]
        if packed:
            pack(folder / "audio" / f"{split}.tar.gz", [(f"{split}/{name}", content) for name, content in contents])
        else:
            for name, content in contents:
                (folder / "audio" / split).mkdir(parents=True, exist_ok=True)
                (folder / "audio" / split / name).write_bytes(content)
        lines = [f"7\t{name}\t{raw}\t{text}\tx |\t16000\tMALE\n" for name, raw, text in split_rows]
        (folder / f"{split}.tsv").write_text("".join(lines))
    return src


def labels(out: Path, lang: str = "eng") -> dict[str, str]:
    """Return all that does not depend on where the audio lies."""
    files = {path.name: path.read_text() for path in sorted((out / lang).glob("*.*")) if path.suffix != ".json"}
    for split in ("train", "dev", "test"):
        rows = manifest.read_manifest(out / lang / f"{split}.tsv")
        files[f"{split}.tsv"] = f"{rows.num_samples.tolist()} {[Path(name).name for name in rows.names()]}"
    return files


def left_out(out: Path, split: str = "train", lang: str = "eng") -> dict[str, list[str]]:
    state = json.loads((out / lang / "prepared.json").read_text())
    found: dict[str, list[str]] = state["splits"][split]["left_out"]
    return found


def test_fleurs_becomes_manifests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert prepare_fleurs.main([str(corpus(tmp_path / "src")), str(out)]) == 0
    folder = out / "eng"
    assert (folder / "train.tsv").read_text() == (
        f"{folder}\naudio/train/1.wav\t16001\naudio/train/2.wav\t16002\naudio/train/3.wav\t16003\n"
    )
    assert (folder / "train.wrd").read_text() == "he said go now\nit is\nzoo\n"
    assert (folder / "train.ltr").read_text() == "h e | s a i d | g o | n o w |\ni t | i s |\nz o o |\n"
    assert (folder / "train.uid").read_text() == "eng_train_1\neng_train_2\neng_train_3\n"
    assert (folder / "audio" / "train" / "2.wav").read_bytes() == audio(RATE + 2)  # byte for byte
    assert manifest.read_dictionary(folder / "dict.ltr.txt")[:2] == ["|", "o"]
    assert "ü" not in (folder / "dict.ltr.txt").read_text()
    assert (out / "dict.ltr.txt").read_text() == (folder / "dict.ltr.txt").read_text()
    printed = capsys.readouterr().out
    assert "[1/1] eng train: 3 utterances, 0.00 h; 33 % hold digits: check how mms-2 treats them" in printed
    assert "eng dev: letters that train does not have, left out of the dictionary: ü" in printed
    summary = json.loads((out / "prepared.json").read_text())
    assert summary["normalization"] == ["mms-2"]
    assert summary["hours"] == pytest.approx((5 * RATE + 15) / RATE / 3600)
    assert summary["mms_recipes"]
    eng = summary["languages"]["eng"]
    assert eng["letters_not_in_train"] == {"dev": ["ü"]}
    assert eng["splits"]["train"]["settings"]["source"] == str(tmp_path / "src" / "data" / "en_us" / "train.tsv")
    assert eng["splits"]["train"]["utterances"] == 3
    assert validation.validate(out).problems() == []


def test_packed_and_unpacked_audio_give_the_same(tmp_path: Path) -> None:
    assert prepare_fleurs.main([str(corpus(tmp_path / "a", packed=True)), str(tmp_path / "x")]) == 0
    assert prepare_fleurs.main([str(corpus(tmp_path / "b", packed=False)), str(tmp_path / "y")]) == 0
    assert labels(tmp_path / "x") == labels(tmp_path / "y")
    rows = manifest.read_manifest(tmp_path / "y" / "eng" / "train.tsv")
    assert rows.path(0) == tmp_path / "b" / "data" / "en_us" / "audio" / "train" / "1.wav"  # used where it lies
    assert not (tmp_path / "y" / "eng" / "audio").exists()
    assert validation.validate(tmp_path / "y").problems() == []


def test_what_is_not_unpacked_is_taken_from_the_archive(tmp_path: Path) -> None:
    corpus(corpus(tmp_path / "src"), packed=False)
    (tmp_path / "src" / "data" / "en_us" / "audio" / "train" / "2.wav").unlink()
    assert prepare_fleurs.main([str(tmp_path / "src"), str(tmp_path / "out")]) == 0
    rows = manifest.read_manifest(tmp_path / "out" / "eng" / "train.tsv")
    assert [Path(name).is_absolute() for name in rows.names()] == [True, False, True]


def test_column_and_normalisation_can_be_chosen(tmp_path: Path) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    arguments = [str(src), str(out), "--column", "raw", "--normalization", "none", "--relative-root"]
    assert prepare_fleurs.main(arguments) == 0
    assert (out / "eng" / "train.wrd").read_text() == 'He said: "Go!"\nIt is 5.\nZoo\n'
    assert (out / "eng" / "train.tsv").read_text().startswith(".\naudio/train/1.wav\t16001\n")
    assert json.loads((out / "prepared.json").read_text())["normalization"] == ["none"]


def test_a_finished_language_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    assert prepare_fleurs.main([str(src), str(out)]) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*") if path.suffix != ".json"}
    content = {path: path.read_text() for path in out.rglob("*.json")}
    capsys.readouterr()
    assert prepare_fleurs.main([str(src), str(out)]) == 0
    assert "[1/1] eng train: finished before, 3 utterances" in capsys.readouterr().out
    del before[out / "dict.ltr.txt"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.read_text() for path in content} == content


@pytest.mark.parametrize("change", ["source", "column", "file", "state"])
def test_what_changed_is_prepared_again(tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    arguments = [str(src), str(out)]
    assert prepare_fleurs.main(arguments) == 0
    if change == "source":
        corpus(src, rows={"train": ROWS["train"][:2]})
    elif change == "column":
        arguments += ["--column", "raw"]
    elif change == "file":
        (out / "eng" / "train.wrd").unlink()
    else:
        (out / "eng" / "prepared.json").unlink()
    capsys.readouterr()
    assert prepare_fleurs.main(arguments) == 0
    assert "eng train: finished before" not in capsys.readouterr().out
    assert (out / "eng" / "train.wrd").exists()
    assert validation.validate(out).problems() == []


def test_a_split_that_was_interrupted_is_not_taken_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    assert prepare_fleurs.main([str(src), str(out)]) == 0
    whole = labels(out)

    def stop(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(preparation, "write_split", stop)
        prepare_fleurs.main([str(src), str(out), "--column", "raw"])
    assert "train" not in json.loads((out / "eng" / "prepared.json").read_text())["splits"]
    assert prepare_fleurs.main([str(src), str(out)]) == 0
    assert labels(out) == whole


def test_a_language_is_added_to_the_union(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert prepare_fleurs.main([str(corpus(tmp_path / "one")), str(out)]) == 0
    french = {split: [(rows[0][0], "é", "é à")] for split, rows in ROWS.items()}
    assert prepare_fleurs.main([str(corpus(tmp_path / "two", "fr_fr", rows=french)), str(out)]) == 0
    union = set(manifest.read_dictionary(out / "dict.ltr.txt"))
    assert union == {
        letter for lang in ("eng", "fra") for letter in manifest.read_dictionary(out / lang / "dict.ltr.txt")
    }
    assert "é" in union and "z" in union
    assert list(json.loads((out / "prepared.json").read_text())["languages"]) == ["eng", "fra"]


def test_languages_are_chosen_by_id_set_and_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = corpus(corpus(corpus(tmp_path / "src"), "fr_fr"), "ita")  # a folder may bear the id, too
    assert prepare_fleurs.main([str(src), str(tmp_path / "a"), "--langs", "fra,en_us"]) == 0
    assert sorted(path.parent.name for path in (tmp_path / "a").glob("*/train.tsv")) == ["eng", "fra"]
    assert prepare_fleurs.main([str(src), str(tmp_path / "b"), "--jobs", "2"]) == 0
    assert sorted(path.parent.name for path in (tmp_path / "b").glob("*/train.tsv")) == ["eng", "fra", "ita"]
    assert labels(tmp_path / "a") == labels(tmp_path / "b")
    assert prepare_fleurs.main([str(src), str(tmp_path / "c"), "--langs", "deu,spa"]) == 1
    assert "has no data of deu, spa; it has eng, fra, ita" in capsys.readouterr().err
    assert prepare_fleurs.main([str(src), str(tmp_path / "c"), "--langs", "english"]) == 1
    assert "unknown language or set 'english'; nearest: eng (English)" in capsys.readouterr().err


def test_only_the_splits_asked_for_are_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    assert prepare_fleurs.main([str(src), str(out), "--splits", "test"]) == 0
    assert "eng: no train split, so no dictionary" in capsys.readouterr().out
    assert sorted(path.name for path in (out / "eng").glob("*.tsv")) == ["test.tsv"]
    assert prepare_fleurs.main([str(src), str(out), "--splits", "train,dev"]) == 0
    assert (out / "eng" / "dict.ltr.txt").exists()
    state = json.loads((out / "eng" / "prepared.json").read_text())
    assert list(state["splits"]) == ["test", "train", "dev"]


def test_splits_of_two_normalisations_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    assert prepare_fleurs.main([str(src), str(out), "--splits", "train"]) == 0
    assert prepare_fleurs.main([str(src), str(out), "--splits", "dev", "--normalization", "none"]) == 1
    message = (
        "other splits were prepared with normalisation mms-2, dev is now asked with none; use the same, or another"
    )
    assert message in capsys.readouterr().err
    assert not (out / "eng" / "dev.tsv").exists()


def test_audio_that_cannot_be_used_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    names = ["1.wav", "3.wav", "cut.wav", "cut.flac", "empty.wav", "text.wav", "zero.wav"]
    rows = [(name, "x", "ab c") for name in ["0.wav", *names]]
    train = "".join(f"7\t{name}\t{raw}\t{text}\n" for name, raw, text in rows)
    (src / "data" / "en_us" / "train.tsv").write_text(train)
    contents = {
        "1.wav": audio(),
        "3.wav": audio(8000, 8000, 2),
        "cut.wav": audio()[:20_000],
        "cut.flac": audio(kind="FLAC")[:9_000],
        "empty.wav": audio(0),
        "text.wav": b"no audio",
        "zero.wav": b"",
    }
    pack(
        src / "data" / "en_us" / "audio" / "train.tar.gz", [(f"train/{n}", content) for n, content in contents.items()]
    )
    assert prepare_fleurs.main([str(src), str(out)]) == 1
    rows_made = manifest.read_manifest(out / "eng" / "train.tsv")
    assert list(rows_made.names()) == ["audio/train/1.wav", "audio/train/3.wav"]
    assert rows_made.num_samples.tolist() == [RATE, RATE]
    assert soundfile.info(rows_made.path(1)).samplerate == RATE and soundfile.info(rows_made.path(1)).channels == 1
    found = left_out(out)
    assert found["audio missing"] == ["eng_train_0 (train.tsv:1: not in train.tar.gz)"]
    broken = found["audio broken"]
    assert len(broken) == 5
    assert broken[0].startswith("eng_train_cut (train.tsv:4: cut: cut off or damaged, 99")
    assert "samples are left of it" in broken[0]
    assert "not readable as audio" in broken[1]
    assert broken[2] == "eng_train_empty (train.tsv:6: empty: no samples)"
    assert "not readable as audio" in broken[3] and "not readable as audio" in broken[4]
    printed = capsys.readouterr()
    assert "left out, audio missing: eng_train_0; audio broken" not in printed.out
    assert (
        "left out, audio missing: eng_train_0" in printed.out and "left out, audio broken: eng_train_cut" in printed.out
    )
    assert "6 utterances have no audio" in printed.err and "(6 of eng train)" in printed.err
    assert "add --allow-missing" in printed.err
    assert prepare_fleurs.main([str(src), str(out)]) == 1  # skipped, but still damaged
    assert prepare_fleurs.main([str(src), str(out), "--allow-missing"]) == 0
    assert "--allow-missing" not in capsys.readouterr().err.splitlines()[-1]
    assert validation.validate(out).problems() == []


def test_texts_that_teach_nothing_are_left_out_and_named(tmp_path: Path) -> None:
    rows = {
        **ROWS,
        "train": [("1.wav", "", "1 2 3!"), ("2.wav", "", "good"), ("2.wav", "", "Good!"), ("3.wav", "", "long " * 12)],
        "dev": [("4.wav", "", "long " * 12)],
    }
    assert prepare_fleurs.main([str(corpus(tmp_path / "src", rows=rows)), str(tmp_path / "out")]) == 0
    assert left_out(tmp_path / "out") == {
        "text empty after normalisation": ["eng_train_1 (train.tsv:1: '1 2 3!')"],
        "a second time in the split": ["eng_train_2 (train.tsv:3: the same text)"],
        "text too long for its audio": ["eng_train_3"],
    }
    assert left_out(tmp_path / "out", "dev") == {}  # dev and test stay whole
    assert (tmp_path / "out" / "eng" / "train.wrd").read_text() == "good\n"
    assert (tmp_path / "out" / "eng" / "dev.wrd").read_text().startswith("long long")


def test_many_names_are_shortened_in_the_output() -> None:
    summary = preparation.SplitSummary(
        {"normalization": "mms-1"}, left_out={"audio missing": [f"u{n}" for n in range(9)]}
    )
    assert summary.line() == "0 utterances, 0.00 h; left out, audio missing: u0, u1, u2, u3, u4 and 4 more"


def hostile_members(outside: Path) -> list[tuple[str | tarfile.TarInfo, bytes]]:
    members: list[tuple[str | tarfile.TarInfo, bytes]] = [
        ("../1.wav", audio(RATE + 1)),
        ("train/../../1.wav", audio(RATE + 1)),
        (str(outside / "1.wav"), audio(RATE + 1)),
        ("../evil.wav", b"evil"),
    ]
    for kind, name in (
        (tarfile.SYMTYPE, "train/1.wav"),
        (tarfile.LNKTYPE, "train/1.wav"),
        (tarfile.FIFOTYPE, "train/1.wav"),
    ):
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, str(outside / "secret.wav")
        members.append((link, b""))
    folder = tarfile.TarInfo("train")
    folder.type, folder.linkname = tarfile.SYMTYPE, str(outside)
    return [*members, (folder, b""), ("train/2.wav", audio(RATE + 2)), ("train/3.wav", audio(RATE + 3))]


def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.wav").write_bytes(audio(RATE + 1))
    src, out = corpus(tmp_path / "src"), tmp_path / "a" / "b" / "out"
    pack(src / "data" / "en_us" / "audio" / "train.tar.gz", hostile_members(outside))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert prepare_fleurs.main([str(src), str(out)]) == 1
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(out)}
    assert after == before
    assert sorted(path.name for path in (out / "eng" / "audio" / "train").iterdir()) == ["2.wav", "3.wav"]
    assert not any(path.is_symlink() for path in out.rglob("*"))
    assert left_out(out)["audio missing"] == ["eng_train_1 (train.tsv:1: not in train.tar.gz)"]
    printed = capsys.readouterr().out
    for name in ("../1.wav", "train/../../1.wav", f"{outside}/1.wav", "../evil.wav", "train/1.wav", "train"):
        assert f"refused {name!r}: not a regular file inside the archive's folder" in printed


@pytest.mark.parametrize("keep", [0, 100, -3000])
def test_nothing_is_used_of_an_archive_that_ends_early(
    tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its checksum, which stood at the end, is lost: a flipped bit can look the same."""
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    archive = src / "data" / "en_us" / "audio" / "train.tar.gz"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:keep])
    assert prepare_fleurs.main([str(src), str(out)]) == 1
    assert "train.tar.gz: cut off or damaged" in capsys.readouterr().out
    assert len(left_out(out)["audio missing"]) == 3
    assert "eng_train_3 (train.tsv:3: train.tar.gz is damaged)" in left_out(out)["audio missing"]
    assert not list((out / "eng" / "audio" / "train").glob("*")) and (out / "eng" / "test.wrd").read_text() == "hi\n"
    archive.write_bytes(whole)
    assert prepare_fleurs.main([str(src), str(out)]) == 0
    assert "eng train: 3 utterances" in capsys.readouterr().out


@pytest.mark.parametrize("row", ["7\t1.wav\tHe said", "7\t\tx\tx", "7\t../1.wav\tx\tx", "", "7 1.wav x x"])
def test_malformed_rows_stop_with_their_line(tmp_path: Path, row: str, capsys: pytest.CaptureFixture[str]) -> None:
    src = corpus(tmp_path / "src")
    with (src / "data" / "en_us" / "train.tsv").open("a") as file:
        file.write(f"{row}\n")
    assert prepare_fleurs.main([str(src), str(tmp_path / "out")]) == 1
    assert f"train.tsv:4: found {row!r}, expected id, file name (without folder), raw" in capsys.readouterr().err


def test_a_source_that_is_not_whole_stops_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src, out = corpus(tmp_path / "src"), tmp_path / "out"
    (src / "data" / "en_us" / "test.tsv").unlink()
    (src / "data" / "en_us" / "audio" / "dev.tar.gz").unlink()
    assert prepare_fleurs.main([str(src), str(out)]) == 1
    error = capsys.readouterr().err
    assert f"not there: {src}/data/en_us/test.tsv, {src}/data/en_us/audio/dev.tar.gz (nor the folder" in error
    assert not out.exists()
    assert prepare_fleurs.main([str(src / "data"), str(out)]) == 1
    assert (
        "no data/<code>/<split>.tsv in it; give the folder that holds FLEURS's data folder" in capsys.readouterr().err
    )
    corpus(src, "xx_yy")
    assert prepare_fleurs.main([str(src), str(out)]) == 1
    assert "unknown FLEURS code 'xx_yy'" in capsys.readouterr().err


def test_real_speech_is_prepared_and_valid(shared_speech: Path, tmp_path: Path) -> None:
    assert prepare_fleurs.main([str(shared_speech), str(tmp_path), "--langs", "en_us,fra,ita"]) == 0
    report = validation.validate(tmp_path)
    report.raise_if_bad()
    assert {key: amount[0] for key, amount in report.amounts.items() if key[0] == "eng"} == {
        ("eng", "train"): 350,
        ("eng", "dev"): 38,
        ("eng", "test"): 46,
    }
    assert {"é", "'", "|"} <= set(manifest.read_dictionary(tmp_path / "dict.ltr.txt"))
    for lang, code in (("eng", "en_us"), ("fra", "fr_fr"), ("ita", "it_it")):
        published = (shared_speech / "data" / code / "train.tsv").read_text().splitlines()
        made = (tmp_path / lang / "train.tsv").read_text().splitlines()[1:]
        assert [line.split("\t")[1] for line in made] == [line.split("\t")[5] for line in published]


# tools/prepare_folder.py


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder of audio of several formats and a table of it."""
    folder = tmp_path / "recordings"
    for name, kind, rate, channels in (
        ("a/1.mp3", "MP3", 44_100, 2),
        ("b/1.ogg", "OGG", 48_000, 1),
        ("c.flac", "FLAC", RATE, 1),
        ("d e.wav", "WAV", 22_050, 1),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(audio(rate, rate, channels, kind))
    (folder / "table.tsv").write_text('path\tsentence\na/1.mp3\tOne "1\nb/1.ogg\tTwo\nc.flac\tThree\nd e.wav\tFour.\n')
    return folder


def folder_tool(folder: Path, *arguments: str, table: str = "table.tsv") -> int:
    return prepare_folder.main([str(folder / table), str(folder.parent / "out"), "--lang", "eng", *arguments])


def test_any_format_becomes_16_khz_mono(recordings: Path) -> None:
    assert folder_tool(recordings) == 0
    out = recordings.parent / "out"
    rows = manifest.read_manifest(out / "eng" / "train.tsv")
    assert [rows.path(index) for index in range(4)] == [
        out / "eng" / "audio" / "train" / "a_1.wav",
        out / "eng" / "audio" / "train" / "b_1.wav",
        recordings / "c.flac",  # right already: used where it lies
        out / "eng" / "audio" / "train" / "d_e.wav",
    ]
    assert all(abs(num_samples - RATE) < 1200 for num_samples in rows.num_samples)  # mp3 pads
    assert rows.num_samples[2:].tolist() == [RATE, RATE]
    assert (out / "eng" / "train.wrd").read_text() == "one\ntwo\nthree\nfour\n"
    assert (out / "eng" / "train.uid").read_text().splitlines()[0] == "eng_train_a_1"
    assert (out / "dict.ltr.txt").exists() and (out / "prepared.json").exists()
    assert validation.validate(out).problems() == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'file,speaker,TEXT\n"c.flac",x,"well, ""yes"""\n'),
        ("t.csv", '\ufeffaudio,transcription\nc.flac,"well,\nyes"\n'),
        ("t.csv", "c.flac,well yes\n"),
        ("t.tsv", "c.flac\twell yes\n"),
        ("t.tsv", "text\tid\tpath\nwell yes\t7\tc.flac\n"),
    ],
)
def test_tables_of_several_forms(recordings: Path, name: str, content: str) -> None:
    (recordings / name).write_text(content)
    assert folder_tool(recordings, table=name) == 0
    assert (recordings.parent / "out" / "eng" / "train.wrd").read_text() == "well yes\n"


def test_splits_from_a_column(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recordings / "table.tsv").write_text(
        "path\ttext\tPart\na/1.mp3\tone\ttrain\nb/1.ogg\ttwo\tdev\nc.flac\tthree\ttrain\n"
    )
    assert folder_tool(recordings, "--split-column", "part") == 0
    out = recordings.parent / "out" / "eng"
    assert (out / "train.wrd").read_text() == "one\nthree\n"
    assert (out / "dev.wrd").read_text() == "two\n"
    assert not (out / "test.tsv").exists()
    assert folder_tool(recordings, "--split-column", "text") == 1
    assert "column 'text' holds ['one', 'three', 'two'], expected train, dev, test" in capsys.readouterr().err
    (recordings / "table.tsv").write_text("c.flac\tx\n")
    assert folder_tool(recordings, "--split-column", "part") == 1
    told = capsys.readouterr().err
    assert "table.tsv:1: the header has c.flac, x" in told and "add a header line" in told


def test_drawn_splits_are_reproducible_and_share_no_sentence(recordings: Path) -> None:
    sentences = [f"{a} {b}" for a in ("red", "green", "blue", "grey") for b in ("cat", "dog", "cow", "hen", "fox")]
    for number in range(2 * len(sentences)):
        (recordings / f"{number}.wav").write_bytes(audio(RATE + number))
    lines = [f"{number}.wav\t{sentences[number % len(sentences)]}{'!' * (number % 2)}" for number in range(40)]
    (recordings / "table.tsv").write_text("\n".join(lines) + "\n")
    found = []
    for out, seed in (("one", "5"), ("two", "5"), ("three", "6")):
        arguments = ["--dev-fraction", "0.1", "--test-fraction", "0.2", "--seed", seed]
        table = str(recordings / "table.tsv")
        assert prepare_folder.main([table, str(recordings.parent / out), "--lang", "eng", *arguments]) == 0
        folder = recordings.parent / out / "eng"
        found.append({split: (folder / f"{split}.wrd").read_text().splitlines() for split in validation.SPLITS})
        assert validation.validate(recordings.parent / out).problems() == []
    assert {split: len(words) for split, words in found[0].items()} == {"train": 28, "dev": 4, "test": 8}
    assert found[0] == found[1] != found[2]
    for words in found:
        assert set(words["train"]) | set(words["dev"]) | set(words["test"]) == set(sentences)
        assert len(set(words["train"])) + len(set(words["dev"])) + len(set(words["test"])) == len(sentences)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "path\twords\nx\ty\n",
            [],
            "table.tsv:1: the header has path, words, but none of text, sentence, transcription",
        ),
        ("name\ttext\nx\ty\n", [], "table.tsv:1: the header has name, text, but none of path, audio, file,"),
        ("path\ttext\nc.flac\n", [], "table.tsv:2: found 1 cells for 2 columns (path, text) separated by tabs"),
        ("path\ttext\n\ty\n", [], "table.tsv:2: found ['', 'y'], expected path and text"),
        ("", [], "table.tsv: empty; expected rows of path and text"),
        (
            "c.flac\tx\n",
            ["--dev-fraction", "0.6", "--test-fraction", "0.4"],
            "expected 0 or more, and together less than 1",
        ),
        ("c.flac\tx\n", ["--dev-fraction", "-0.1"], "--dev-fraction -0.1 and --test-fraction 0.0: expected 0 or more"),
        ("c.flac\tx\n", ["--lang", "english"], "unknown language or set 'english'; nearest: eng (English)"),
    ],
)
def test_bad_tables_and_options_are_answered(
    recordings: Path, content: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "table.tsv").write_text(content)
    assert folder_tool(recordings, *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (recordings.parent / "out").exists()


def test_a_missing_table_is_named(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert folder_tool(recordings, table="none.tsv") == 1
    assert "none.tsv: no such file; expected a .tsv or .csv of path and text" in capsys.readouterr().err


def test_missing_recordings_are_named(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (recordings / "table.tsv").write_text("c.flac\tx\nnone.wav\ty\n")
    assert folder_tool(recordings) == 1
    assert "left out, audio missing: eng_train_none" in capsys.readouterr().out
    assert folder_tool(recordings, "--allow-missing") == 0


def test_audio_root_and_names_that_collide(recordings: Path) -> None:
    (recordings / "c_1.wav").write_bytes(audio(RATE // 2, RATE // 2))
    (recordings / "c").mkdir()
    (recordings / "c" / "1.wav").write_bytes(audio(RATE // 4, RATE // 4))
    table = recordings.parent / "elsewhere.tsv"
    table.write_text(f"c_1.wav\tx\nc/1.wav\ty\n../recordings/c.flac\tz\n{recordings}/a/1.mp3\tw\n")
    arguments = ["--lang", "eng", "--audio-root", str(recordings)]
    assert prepare_folder.main([str(table), str(recordings.parent / "out"), *arguments]) == 0
    uids = (recordings.parent / "out" / "eng" / "train.uid").read_text().split()
    assert uids == ["eng_train_c_1", "eng_train_c_1-2", "eng_train__recordings_c", "eng_train_1"]
    audio_made = recordings.parent / "out" / "eng" / "audio" / "train"
    assert sorted(path.name for path in audio_made.iterdir()) == ["1.wav", "c_1-2.wav", "c_1.wav"]
    assert validation.validate(recordings.parent / "out").problems() == []


# audio files


def test_resampling_keeps_pitch_and_length(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(44_100) / 44_100)
    soundfile.write(tmp_path / "tone.wav", np.stack([tone, tone], axis=1) * 0.5, 44_100)
    path, num_samples, _ = audio_files.place(tmp_path / "tone.wav", tmp_path / "made" / "tone", in_place=True)
    samples, rate = soundfile.read(path)
    assert (path, num_samples, rate, samples.shape) == (tmp_path / "made" / "tone.wav", RATE, RATE, (RATE,))
    assert np.argmax(np.abs(np.fft.rfft(samples))) == 440
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)
    assert [p.name for p in path.parent.iterdir()] == ["tone.wav"]


def test_a_wav_of_unknown_length_is_whole(tmp_path: Path) -> None:
    streamed = bytearray(audio(2000))
    streamed[40:44] = streamed[4:8] = (0xFFFF_FFFF).to_bytes(4, "little")  # as programs write into a pipe
    assert audio_files.place(bytes(streamed), tmp_path / "x", in_place=False)[1] == 2000


def test_audio_that_is_no_numbers_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan]), RATE, subtype="FLOAT")
    with pytest.raises(audio_files.AudioError, match=r"nan.wav: samples that are not finite numbers"):
        audio_files.place(tmp_path / "nan.wav", tmp_path / "out" / "nan", in_place=True)
    with pytest.raises(audio_files.AudioError, match=r"none.wav: no such file"):
        audio_files.place(tmp_path / "none.wav", tmp_path / "out" / "none", in_place=True)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = corpus(tmp_path / "src", rows={"train": [("1.wav", "Hi.", "hi")]})
    with disks.full(1000):
        assert prepare_fleurs.main([str(src), str(tmp_path / "out"), "--splits", "train"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and told[0].startswith("error: [Errno 27] File too large: '"), told
    assert not list((tmp_path / "out").rglob("*.tmp"))
