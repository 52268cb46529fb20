"""tools/segment_audio.py: speech is kept, silence and music are not; broken files are named, finished ones stay."""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import segment_audio
import segment_recording
import soundfile
import soxr
import speak_espeak
import speak_sentences
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from segment_recording import Sound

from mms_recipes import manifest
from mms_recipes.audio_files import AudioError
from mms_recipes.corpora import validation
from mms_recipes.corpora.segmentation import Span, speech_spans
from tests.unit import memory

THREADS = torch.get_num_threads()
silero_vad = pytest.importorskip("silero_vad", reason="no silero-vad (extra [vad]): these tests did NOT run")
torch.set_num_threads(THREADS)  # silero-vad sets torch to one thread when it is imported

TOOL = Path(__file__).parents[2] / "tools" / "segment_audio.py"
RATE = 16_000
Samples = NDArray[np.float32]


@pytest.fixture(autouse=True, scope="module")
def threads_as_before() -> Iterator[None]:
    """The detector runs on one thread; the tests of other modules shall not notice."""
    yield
    torch.set_num_threads(THREADS)


class Speaker:
    """Speech of any length, never the same twice."""

    def __init__(self) -> None:
        self.espeak, self.rng, self.spoken = speak_espeak.Espeak(1), random.Random(1), set[str]()
        self.lang = speak_sentences.load_languages()["en_us"]

    def speak(self, seconds: float) -> Samples:
        """Speak without a pause of more than 0.1 s, cut after so many seconds."""
        parts: list[Samples] = []
        while sum(map(len, parts)) < seconds * RATE:
            sentence, _ = speak_sentences.draw_new_sentence(self.lang, self.rng, self.spoken)
            audio = self.espeak.speak(sentence, "en-us+m3", rate=165, pitch=50, pitch_range=50, volume=80)
            loud = np.flatnonzero(np.abs(audio) > 300)
            parts += [audio[loud[0] : loud[-1]].astype(np.float32) / 32768, silence(0.1)]
        return np.concatenate(parts)[: round(seconds * RATE)]


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), np.float32)


def music(seconds: float) -> Samples:
    """Chords of decaying strings, two a second."""
    rng, beats = np.random.default_rng(1), []
    time_s = np.arange(RATE // 2) / RATE
    for _ in range(round(seconds * 2)):
        root = rng.choice([131, 147, 165, 196, 220])
        notes = [np.sin(2 * np.pi * root * ratio * time_s) for ratio in (1, 1.26, 1.5, 2, 2.52, 3)]
        beats.append(0.1 * np.exp(-3 * time_s) * np.sum(notes, axis=0))
    return np.concatenate(beats).astype(np.float32)


def write(path: Path, audio: Samples, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    resampled = soxr.resample(audio, RATE, rate)
    soundfile.write(path, np.stack([resampled] * channels, axis=1), rate)
    return path


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory, speaker: Speaker) -> Path:
    """Two languages; eng/talk.wav has speech at 4 to 24 s, 36 to 44 s and 54 to 56 s."""
    src = tmp_path_factory.mktemp("src")
    speak = speaker.speak
    talk = [silence(4), speak(20), silence(12), speak(8), silence(10), speak(2), silence(3)]
    write(src / "eng" / "talk.wav", np.concatenate(talk))
    write(src / "eng" / "old radio" / "phone.wav", np.concatenate([speak(16), silence(2)]), rate=8000, channels=2)
    write(src / "eng" / "song.flac", music(20))
    (src / "eng" / "notes.txt").write_text("not audio")
    (src / "eng" / ".talk.wav").write_text("hidden")
    write(src / "ita" / "voce.mp3", np.concatenate([speak(40), music(9), speak(7)]), rate=44_100)
    return src


def run(src: Path, out: Path, *arguments: str) -> int:
    return segment_audio.main([str(src), str(out), "--min-language-minutes", "0", "--workers", "1", *arguments])


@pytest.fixture(scope="module")
def out(src: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is made of `src`; tests that change it take a run of their own."""
    out = tmp_path_factory.mktemp("out")
    assert run(src, out) == 0
    return out


def receipt(out: Path, lang: str, name: str) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = json.loads((out / lang / "audio" / name / "segments.json").read_text())
    return found


def rows(out: Path, lang: str) -> dict[str, list[str]]:
    """Return the paths in each manifest that is there."""
    tables = {split: out / lang / f"{split}.tsv" for split in validation.SPLITS}
    return {split: list(manifest.read_manifest(tsv).names()) for split, tsv in tables.items() if tsv.exists()}


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files but for what depends on when the sources were written."""
    files = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for name in files:
        if name.endswith("segments.json"):
            files[name] = json.dumps({**json.loads(files[name]), "mtime_ns": 0}).encode()
    return files


def test_manifests_are_what_training_reads(out: Path) -> None:
    report = validation.validate(out, labelled=False)
    assert report.problems() == []
    assert {lang for lang, _ in report.amounts} == {"eng", "ita"}
    for lang in ("eng", "ita"):
        made = [f"audio/{path.relative_to(out / lang / 'audio')}" for path in (out / lang).rglob("0*.flac")]
        assert sorted(made) == sorted(path for paths in rows(out, lang).values() for path in paths)
        for path in made:
            info = soundfile.info(out / lang / path)
            assert (info.format, info.subtype, info.samplerate, info.channels) == ("FLAC", "PCM_16", RATE, 1)
            assert 5.5 <= info.duration <= 30
    assert (out / "eng" / "train.tsv").read_text().startswith(f"{out / 'eng'}\naudio/")
    assert not list(out.rglob(".*"))


def test_speech_is_kept_and_silence_is_not(src: Path, out: Path) -> None:
    made = receipt(out, "eng", "talk.wav")
    seconds = [(start / RATE, end / RATE) for start, end in made["utterances"]]
    assert seconds[0][0] == pytest.approx(4, abs=0.3)
    assert seconds[-1] == (pytest.approx(36, abs=0.3), pytest.approx(44, abs=0.3))
    assert sum(end - start for start, end in seconds) == pytest.approx(28, abs=0.6)
    assert [start / RATE for start, _ in made["too_short"]] == [pytest.approx(54, abs=0.3)]
    whole, _ = soundfile.read(src / "eng" / "talk.wav", dtype="int16")
    for number, (start, end) in enumerate(made["utterances"]):
        samples, _ = soundfile.read(out / "eng" / "audio" / "talk.wav" / f"{number:05}.flac", dtype="int16")
        assert np.array_equal(samples, whole[start:end])


def test_eight_kilohertz_in_two_channels(out: Path) -> None:
    made = receipt(out, "eng", "old radio/phone.wav")
    assert made["num_samples"] == 18 * RATE
    assert sum(end - start for start, end in made["utterances"]) == pytest.approx(16 * RATE, abs=0.5 * RATE)


def test_music_is_not_taken_for_speech(out: Path) -> None:
    assert receipt(out, "eng", "song.flac")["utterances"] == []
    for start, end in receipt(out, "ita", "voce.mp3")["utterances"]:
        assert end <= 41 * RATE or start >= 48 * RATE


def test_table_and_what_was_passed_by(src: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(src, out) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"passed by in {src}, because libsndfile does not read it: 1 '.txt'"
    assert printed[1] == "4 recordings: 4 finished before, 0 to cut"
    assert printed[2].split() == ["language", "files", "hours", "in", "kept", "train", "dev", "test", "dropped"]
    assert printed[3].split()[:4] == ["eng", "3", "0.03", "0.01"]
    assert "no speech 0.01 h, too short 0.00 h (1 spans)" in printed[3]
    assert printed[4].split()[:2] == ["ita", "1"]
    assert printed[5].split()[:2] == ["all", "4"]
    assert len(printed) == 6


def test_one_language_by_name_is_cut_like_a_folder_of_it(src: Path, out: Path, tmp_path: Path) -> None:
    assert run(src / "ita", tmp_path / "x", "--lang", "ita", "--relative-root") == 0
    ours = contents(tmp_path / "x" / "ita")
    assert ours["train.tsv"].startswith(b".\naudio/voce.mp3/")
    assert {name: data for name, data in ours.items() if "audio" in name} == {
        name: data for name, data in contents(out / "ita").items() if "audio" in name
    }
    assert validation.validate(tmp_path / "x", labelled=False).problems() == []


@pytest.mark.slow
def test_same_bytes_whatever_the_workers(src: Path, out: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(TOOL), str(src), str(tmp_path), "--min-language-minutes", "0", "--workers", "2"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "100%" in result.stderr
    roots = {name for name in contents(out) if name.endswith(".tsv")}
    assert roots == {name for name in contents(tmp_path) if name.endswith(".tsv")}
    for name, data in contents(out).items():
        assert contents(tmp_path)[name] == data.replace(bytes(out), bytes(tmp_path))


def test_another_seed_cuts_elsewhere(src: Path, out: Path, tmp_path: Path) -> None:
    assert run(src / "ita", tmp_path, "--lang", "ita", "--seed", "2") == 0
    first, second = (receipt(folder, "ita", "voce.mp3")["utterances"] for folder in (out, tmp_path))
    assert first != second
    assert sum(end - start for start, end in first) == sum(end - start for start, end in second)


def test_what_is_finished_is_skipped(src: Path, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".flac", ".json")}
    assert run(src, out) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize("change", ["settings", "source", "lost file", "receipt of another version"])
def test_what_changed_is_cut_again(src: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]) -> None:
    audio, arguments = write(tmp_path / "src" / "a.wav", read(src / "eng" / "talk.wav")), ["--lang", "eng"]
    write(tmp_path / "src" / "b.wav", read(src / "eng" / "talk.wav")[: 30 * RATE])
    assert run(tmp_path / "src", tmp_path / "out", *arguments) == 0
    folder = tmp_path / "out" / "eng" / "audio" / "a.wav"
    whole = contents(folder)
    if change == "settings":
        arguments += ["--max-seconds", "15"]
    elif change == "source":
        write(audio, read(audio)[: 30 * RATE])
    elif change == "lost file":
        (folder / "00000.flac").unlink()
    else:
        (folder / "segments.json").write_text('{"version": 2}')
    capsys.readouterr()
    assert run(tmp_path / "src", tmp_path / "out", *arguments) == 0
    again = 2 if change == "settings" else 1
    assert f"2 recordings: {2 - again} finished before, {again} to cut" in capsys.readouterr().out
    assert (contents(folder) == whole) == (change in ("lost file", "receipt of another version"))
    if change == "source":
        assert max(end for _, end in receipt(tmp_path / "out", "eng", "a.wav")["utterances"]) <= 30 * RATE
    assert validation.validate(tmp_path / "out", labelled=False).problems() == []
    assert not list((tmp_path / "out").rglob(".*"))


def read(path: Path) -> Samples:
    samples: Samples = soundfile.read(path, dtype="float32")[0]
    return samples


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that cut, without the one that keeps watch over shared memory."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("victim", ["worker", "parent", "all"])
def test_killed_and_given_again(speaker: Speaker, tmp_path: Path, victim: str) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    for number in range(6):
        write(src / "zul" / f"{number}.wav", np.tile(np.append(speaker.speak(9), silence(5)), 10 + number))
    command = [sys.executable, str(TOOL), str(src), str(out), "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while process.poll() is None and not list(out.rglob("segments.json")):
            time.sleep(0.01)
        workers = workers_of(process)
        assert len(workers) == 2, "finished too soon to be killed"
        if victim == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(workers[0] if victim == "worker" else process.pid, signal.SIGKILL)
        errors = process.communicate(timeout=60)[1]  # returns when the workers, too, have closed their end
    told = "error: a worker was killed, perhaps for want of memory; what is finished is kept" in errors
    assert (told, process.returncode) == ((True, 1) if victim == "worker" else (False, -signal.SIGKILL))
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("audio/*/segments.json")}
    assert 1 <= len(finished) < 6
    half = out / "zul" / ".cutting" / "0123456789abcdef" / "00000.flac"
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_bytes(b"half")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"6 recordings: {len(finished)} finished before, {6 - len(finished)} to cut" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert run(src, tmp_path / "at once") == 0
    at_once, moved = contents(tmp_path / "at once"), (bytes(tmp_path / "at once"), bytes(out))
    assert contents(out) == {name: data.replace(*moved) for name, data in at_once.items()}


def test_broken_recordings_are_named_and_the_rest_is_cut(
    src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "src" / "eng"
    whole = write(folder / "whole.wav", read(src / "eng" / "talk.wav")).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    flac = write(folder / "cut.flac", read(src / "eng" / "talk.wav"))
    flac.write_bytes(flac.read_bytes()[:-100_000])
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "silent.wav", np.zeros(0), RATE)
    (folder / "text.mp3").write_text("this is no music")
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    (folder / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    assert run(tmp_path / "src", tmp_path / "out") == 1
    printed = capsys.readouterr()
    errors = printed.err.partition("broken and left out (--allow-missing accepts that):\n")[2].splitlines()
    for line, (name, reason) in zip(
        errors,
        [
            ("cut.flac", ""),
            ("cut.wav", "cut off or damaged, its header promises more than there is"),
            ("empty.wav", "not readable as audio (Format not recognised.)"),
            ("lost.wav", "no such file"),
            ("nan.wav", "samples that are not finite numbers"),
            ("silent.wav", "holds no samples"),
            ("text.mp3", "not readable as audio"),
        ],
        strict=True,
    ):
        assert line.startswith(f"{folder / name}: {reason}")
    assert "8 recordings: 0 finished before, 8 to cut" in printed.out
    assert "7 broken" in printed.out
    assert {path.split("/")[1] for paths in rows(tmp_path / "out", "eng").values() for path in paths} == {"whole.wav"}
    assert sorted(os.listdir(tmp_path / "out" / "eng" / "audio")) == ["whole.wav"]
    assert run(tmp_path / "src", tmp_path / "out", "--allow-missing") == 0
    assert "8 recordings: 1 finished before, 7 to cut" in capsys.readouterr().out


def test_a_language_with_little_audio_is_dropped(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(src, tmp_path) == 0
    train = {lang: manifest.read_manifest(tmp_path / lang / "train.tsv").seconds() / 60 for lang in ("eng", "ita")}
    short, long = sorted(train, key=lambda lang: train[lang])
    capsys.readouterr()
    assert run(src, tmp_path, "--min-language-minutes", str(sum(train.values()) / 2)) == 0
    printed = capsys.readouterr()
    assert f"min of train audio: 1 of 2 languages: {short}\n" in printed.err
    assert f"all, because train has {train[short]:.1f} min" in printed.out
    assert not rows(tmp_path, short) and rows(tmp_path, long)
    assert run(src, tmp_path, "--min-language-minutes", "5") == 1
    assert "dropped, with less than 5 min of train audio: 2 of 2 languages: eng, ita\n" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tsv"))


def test_whole_recordings_can_be_kept_in_one_split(speaker: Speaker, tmp_path: Path) -> None:
    for number in range(5):
        write(tmp_path / "src" / f"{number}.wav", np.concatenate([speaker.speak(6), silence(4)] * 3))
    assert (
        run(tmp_path / "src", tmp_path / "out", "--lang", "zul", "--split-by", "file", "--splits", "0.6,0.2,0.2") == 0
    )
    held = {split: {path.split("/")[1] for path in paths} for split, paths in rows(tmp_path / "out", "zul").items()}
    assert [len(held[split]) for split in validation.SPLITS] == [3, 1, 1]
    assert len(set.union(*held.values())) == 5
    assert run(tmp_path / "src", tmp_path / "out", "--lang", "zul", "--splits", "1,0,0") == 0
    assert list(rows(tmp_path / "out", "zul")) == ["train"]


def test_any_file_name_can_be_in_a_manifest(src: Path, tmp_path: Path) -> None:
    audio = write(tmp_path / "plain.wav", read(src / "eng" / "talk.wav"))
    (tmp_path / "src").mkdir()
    names = [
        b"tab\tand\nline.wav",
        b"50%.wav",
        b"50%25.wav",
        b"\xff.wav",
        "zoë 日本.wav".encode(),
        b"long" * 60 + b".wav",
    ]
    for name in names:
        os.link(audio, bytes(tmp_path / "src") + b"/" + name)
    assert run(tmp_path / "src", tmp_path / "out", "--lang", "eng") == 0
    found = {path.split("/")[1] for paths in rows(tmp_path / "out", "eng").values() for path in paths}
    expected = ["tab%09and%0Aline.wav", "50%25.wav", "50%2525.wav", "%FF.wav", "zoë 日本.wav", f"{'long' * 60}.wav"]
    assert found == set(expected)
    assert validation.validate(tmp_path / "out", labelled=False).problems() == []


def test_recordings_that_are_gone_are_told(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "src" / "a.wav", read(src / "eng" / "talk.wav"))
    gone = write(tmp_path / "src" / "b.wav", read(src / "eng" / "talk.wav"))
    assert run(tmp_path / "src", tmp_path / "out", "--lang", "eng") == 0
    gone.unlink()
    assert run(tmp_path / "src", tmp_path / "out", "--lang", "eng") == 0
    found = f"eng: 1 recordings in {tmp_path / 'out'} are no longer in SRC, and not in the manifests: "
    assert found + str(tmp_path / "out" / "eng" / "audio" / "b.wav") in capsys.readouterr().out
    assert {path.split("/")[1] for paths in rows(tmp_path / "out", "eng").values() for path in paths} == {"a.wav"}


def test_links_to_folders_are_not_followed_and_told(
    src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "src" / "a.wav", silence(1))
    (tmp_path / "src" / "round").symlink_to(tmp_path / "src")
    assert len(segment_audio.find_recordings(tmp_path / "src", tmp_path / "out", "eng")) == 1
    assert "1 'links to folders'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lang", "zulu"], "unknown language or set 'zulu'; nearest: zul (Zulu)"),
        ([], "unknown language or set 'english'; nearest: eng (English)"),
        ([], "loose.wav: in no folder of a language; move it, or give --lang for all of SRC"),
        (
            ["--lang", "eng", "--splits", "0.8,0.2"],
            "--splits '0.8,0.2': expected shares of train, dev, test, together 1",
        ),
        (["--lang", "eng", "--splits", "0.8,0.3,-0.1"], "expected shares of train, dev, test"),
        (["--lang", "eng", "--splits", "0.8,0.1,x"], "expected shares of train, dev, test"),
        (["--lang", "eng", "--splits", "0,0.5,0.5"], "expected shares of train, dev, test"),
        (["--lang", "eng", "--max-seconds", "10"], "utterances of 5.5 to 10 s: expected"),
        (["--lang", "eng", "--workers", "0"], "--workers 0: expected 1 or more"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "src" / "english" / "a.wav", silence(1))
    write(tmp_path / "src" / "loose.wav", silence(1))
    assert run(tmp_path / "src", tmp_path / "out", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_cannot_be_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", tmp_path / "out", "--lang", "eng") == 1
    assert f"{tmp_path / 'nowhere'}: no such folder; expected one that holds recordings" in capsys.readouterr().err
    (tmp_path / "src").mkdir()
    assert run(tmp_path / "src", tmp_path / "out", "--lang", "eng") == 1
    assert f"{tmp_path / 'src'}: no audio in it; libsndfile reads " in capsys.readouterr().err
    write(tmp_path / "src" / "a.wav", silence(1))
    assert run(tmp_path / "src", tmp_path / "src" / "out", "--lang", "eng") == 1
    assert "would be cut itself the next time; choose an OUT outside SRC" in capsys.readouterr().err
    theirs = tmp_path / "out" / "eng" / "audio" / "a.wav" / "diary.txt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("dear diary")
    assert run(tmp_path / "src", tmp_path / "out", "--lang", "eng") == 1
    assert "no segments.json in it, so this tool did not make it; choose another OUT" in capsys.readouterr().err
    assert theirs.read_text() == "dear diary"


def test_a_missing_detector_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_recording, "DETECTOR", "no-such-detector")
    with pytest.raises(ValueError, match=r"no-such-detector, .* is not installed; pip install '\.\[vad\]'"):
        segment_recording.detector_version()


def test_a_source_that_changes_meanwhile_is_broken(src: Path, tmp_path: Path) -> None:
    (found,) = segment_audio.find_recordings(src / "ita", tmp_path, "ita")
    older = segment_recording.Recording(found.lang, found.name, found.path, found.size, found.mtime_ns - 1)
    result = segment_recording.cut_recording(older, tmp_path, segment_audio.Rules(), {"seed": 1})
    assert result == f"{found.path}: changed while it was read; give the command again"
    assert not list(tmp_path.rglob("*.flac"))


# ---- shards


def shards(src: Path, out: Path, num_shards: int, *arguments: str) -> list[int]:
    """Run every shard, the last one first; return their exit codes."""
    numbers = reversed(range(num_shards))
    return [run(src, out, "--num-shards", str(num_shards), "--shard", str(n), *arguments) for n in numbers]


def test_shards_together_are_the_whole(
    src: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(src, tmp_path, "--merge") == 1
    assert "shards: nothing there; run every shard with num_shards=... shard=... first" in capsys.readouterr().err
    for shard in (2, 0):
        assert run(src, tmp_path, "--num-shards", "3", "--shard", str(shard)) == 0
    assert "3 recordings" not in capsys.readouterr().out
    assert run(src, tmp_path, "--merge") == 1
    assert "1 of 3 shards missing: 1; run the same command with shard=... of each" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tsv"))
    assert run(src, tmp_path, "--num-shards", "3", "--shard", "1") == 0
    capsys.readouterr()
    assert run(src, tmp_path, "--merge") == 0
    assert "4 recordings in 3 shards: 4 cut, 0 broken" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "shards")
    assert contents(tmp_path) == {
        name: data.replace(bytes(out), bytes(tmp_path)) for name, data in contents(out).items()
    }
    assert not list(tmp_path.rglob(".*"))


def test_shards_have_each_recording_once(tmp_path: Path) -> None:
    sizes = [7, 900, 3, 3, 80, 2, 500, 60, 5, 1]
    recordings = [
        segment_recording.Recording("eng", f"{n}.wav", tmp_path / f"{n}.wav", size, 0) for n, size in enumerate(sizes)
    ]
    dealt = [segment_audio.deal(recordings, 4, shard) for shard in range(4)]
    assert sorted((one for own in dealt for one in own), key=lambda one: one.name) == recordings
    assert [len(own) for own in dealt] == [3, 3, 2, 2]
    assert [own[0].size for own in dealt] == [900, 500, 80, 60]  # long ones are apart


def test_merging_refuses_what_is_not_whole(src: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine, out = tmp_path / "src", tmp_path / "out"
    for name in ("a.wav", "b.wav"):
        write(mine / "eng" / name, read(src / "eng" / "talk.wav")[: 25 * RATE])
    (mine / "eng" / "text.mp3").write_text("this is no music")
    assert sorted(shards(mine, out, 2)) == [0, 1]  # one has the broken file
    assert "broken and left out (--allow-missing accepts that):" in capsys.readouterr().err
    assert shards(mine, out, 2, "--allow-missing") == [0, 0]
    assert run(mine, out, "--merge") == 1  # whole, but for what is broken
    printed = capsys.readouterr()
    assert "3 recordings in 2 shards: 2 cut, 1 broken" in printed.out and "text.mp3: not readable" in printed.err
    assert {path.split("/")[1] for paths in rows(out, "eng").values() for path in paths} == {"a.wav", "b.wav"}
    assert run(mine, out, "--merge", "--allow-missing") == 0
    told = [("--merge", "--shard", "1"), ("--merge", "--max-seconds", "15")]
    messages = ["--merge puts all shards together; leave", "shards: max_seconds was 30.0, now it is 15.0; give the"]
    for arguments, message in zip(told, messages, strict=True):
        assert run(mine, out, *arguments) == 1
        assert message in capsys.readouterr().err
    write(mine / "eng" / "b.wav", silence(1))
    assert run(mine, out, "--merge", "--allow-missing") == 1
    found = f"1 of 3 recordings are neither cut nor known to be broken, or changed since: {mine / 'eng/b.wav'}; run all"
    assert found in capsys.readouterr().err
    write(mine / "eng" / "new.wav", silence(1))
    assert run(mine, out, "--merge", "--allow-missing") == 1
    assert "shards: recordings was 3, now it is 4; give the options of the shards, and run" in capsys.readouterr().err
    assert shards(mine, out, 2, "--allow-missing") == [0, 0]
    assert run(mine, out, "--merge", "--allow-missing") == 0


def test_a_shard_leaves_the_others_alone(src: Path, tmp_path: Path) -> None:
    """What another shard has begun stays; what a killed run of the same recording has left does not."""
    theirs = tmp_path / "ita" / ".cutting" / "0123456789abcdef" / "00000.flac"
    (recording,) = segment_audio.find_recordings(src / "ita", tmp_path, "ita")
    name = hashlib.sha256(recording.name.encode()).hexdigest()[:16]
    for half in (theirs, *(tmp_path / "ita" / ".cutting" / left / "00099.flac" for left in (name, f"{name}.old"))):
        half.parent.mkdir(parents=True)
        half.write_bytes(b"half")
    assert shards(src, tmp_path, 2) == [0, 0]
    assert list((tmp_path / "ita" / ".cutting").rglob("*.flac")) == [theirs]
    assert run(src, tmp_path, "--merge") == 0
    assert not theirs.exists() and not list(tmp_path.rglob("00099.flac"))


@pytest.mark.parametrize(
    ("num_shards", "shard", "message"),
    [
        ("3", "3", "shard is 3, expected 0 to 2"),
        ("0", "0", "num_shards is 0"),
        ("9", "1", "9 shards for 4 recordings: some would be empty"),
    ],
)
def test_shards_that_cannot_be(
    src: Path, tmp_path: Path, num_shards: str, shard: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(src, tmp_path / "out", "--num-shards", num_shards, "--shard", shard) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- one recording


@pytest.mark.parametrize(("rate", "channels", "suffix"), [(8000, 2, "wav"), (44_100, 1, "mp3"), (16_000, 3, "flac")])
def test_blocks_are_the_whole_file(tmp_path: Path, rate: int, channels: int, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    audio = np.random.default_rng(1).normal(scale=0.1, size=(rate * 23 + 17, channels))
    soundfile.write(path, audio, rate)
    blocks = list(Sound(path).blocks())
    expected = soxr.resample(soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1), rate, RATE)
    assert max(map(len, blocks)) <= 11 * RATE
    assert abs(sum(map(len, blocks)) - len(expected)) <= 1
    assert np.allclose(np.concatenate(blocks)[: len(expected) - 1], expected[:-1], atol=1e-4)


@given(st.lists(st.integers(0, 50), max_size=10), st.lists(st.integers(0, 30), max_size=10))
def test_spans_are_cut_out_of_any_blocks(sizes: list[int], steps: list[int]) -> None:
    blocks = np.split(np.arange(sum(sizes), dtype=np.float32), np.cumsum(sizes[:-1], dtype=np.int64)) if sizes else []
    edges = np.cumsum(steps).tolist()
    spans = list(zip(edges[::2], edges[1::2], strict=False))
    inside = [span for span in spans if span[1] <= sum(sizes)]
    pieces = segment_recording.cut_out(iter(blocks), spans)
    for start, end in inside:
        assert np.array_equal(next(pieces), np.arange(start, end, dtype=np.float32))
    if len(inside) < len(spans):
        with pytest.raises(AudioError, match="shorter than when it was first read"):
            next(pieces)


def test_a_long_recording_needs_little_memory(tmp_path: Path) -> None:
    """An hour is 230 MB as float32; a block is 0.6 MB and the longest utterance 2 MB."""
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(60):
            file.write(np.zeros(60 * 8000, np.int16))
    spans = [(start * RATE, (start + 30) * RATE) for start in range(0, 3600, 90)]
    with memory.traced() as peak:
        lengths = [len(piece) for piece in segment_recording.cut_out(Sound(path).blocks(), spans)]
        assert lengths == [30 * RATE] * 40
        assert peak() < 20e6


def test_speech_is_found_as_by_silero_itself(src: Path) -> None:
    audio = np.concatenate(list(Sound(src / "eng" / "talk.wav").blocks()))
    model, window = segment_recording.detector(), segment_recording.WINDOW
    expected = [(span["start"], span["end"]) for span in silero_vad.get_speech_timestamps(audio, model)]
    assert len(expected) > 3
    model.reset_states()
    windows = torch.from_numpy(np.append(audio, silence(-len(audio) % window / RATE))).view(-1, window)
    alone = np.array([model(samples, RATE).item() for samples in windows], np.float32)
    assert speech_spans(alone, window, len(audio)) == expected
    together, num_samples = segment_recording.speech_probabilities(np.array_split(audio, 7))
    assert (num_samples, len(together)) == (len(audio), len(alone))
    assert np.mean(np.abs(together - alone) > 0.2) < 0.02


def test_silence_between_stretches_is_in_its_place(speaker: Speaker) -> None:
    """More than one turn of all rows, by some samples, and speech only where the second turn begins."""
    turn = segment_recording.ROWS * segment_recording.STRETCH * segment_recording.WINDOW
    audio = np.concatenate([silence(turn / RATE - 3), speaker.speak(6), silence(4.0001)])
    found, num_samples = segment_recording.speech_probabilities(iter([audio]))
    assert (num_samples, len(found)) == (len(audio), -(-len(audio) // segment_recording.WINDOW))
    spans = speech_spans(found, segment_recording.WINDOW, num_samples)
    start, end = spans[0][0], spans[-1][1]
    assert start == pytest.approx(turn - 3 * RATE, abs=0.2 * RATE)
    assert end == pytest.approx(turn + 3 * RATE, abs=0.3 * RATE)


def test_nothing_imports_torchaudio() -> None:
    program = "import sys, silero_vad; silero_vad.load_silero_vad(); print('torchaudio' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


@pytest.mark.parametrize("code", ["en_us", "fr_fr", "it_it"])
def test_real_speech_between_music_and_silence(shared_speech: Path, tmp_path: Path, code: str) -> None:
    parts, labels = [], []
    with tarfile.open(shared_speech / "data" / code / "audio" / "dev.tar.gz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                utterance = soundfile.read(io.BytesIO(stream.read()), dtype="float32")[0]
                parts += [utterance, music(3) if len(parts) % 4 else silence(3)]
                labels += [np.ones(len(utterance), bool), np.zeros(3 * RATE, bool)]
    path, is_speech = write(tmp_path / "a.wav", np.concatenate(parts)), np.concatenate(labels)
    found, num_samples = segment_recording.speech_probabilities(Sound(path).blocks())
    kept = np.zeros(num_samples, bool)
    for start, end in speech_spans(found, segment_recording.WINDOW, num_samples):
        kept[start:end] = True
    assert kept[is_speech].mean() > 0.8  # utterances begin and end with silence
    assert kept[~is_speech].mean() < 0.1
