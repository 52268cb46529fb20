"""tools/speak_corpus.py: FLEURS's layout, the same bytes every time, no sentence or voice shared between splits."""

import io
import random
import re
import subprocess
import sys
import tarfile
import unicodedata
import wave
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "speak_corpus.py"
sys.path.insert(0, str(TOOL.parent))

import speak_corpus  # noqa: E402
import speak_espeak  # noqa: E402
import speak_sentences  # noqa: E402

CODES = ["ja_jp", "fr_fr"]
SPLITS = ["train", "dev", "test"]


def speak(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), str(out), "--minutes", "0.15", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("spoken")
    result = speak(out, "--langs", *CODES, "--jobs", "2")
    assert result.returncode == 0, result.stderr
    return out


def rows_of(corpus: Path, code: str, split: str) -> list[list[str]]:
    text = (corpus / "data" / code / f"{split}.tsv").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_bytes_whatever_the_order_and_jobs(corpus: Path, tmp_path: Path) -> None:
    assert speak(tmp_path, "--langs", *reversed(CODES), "--jobs", "1").returncode == 0
    assert contents(tmp_path) == contents(corpus)


def test_another_seed_gives_other_sentences(corpus: Path, tmp_path: Path) -> None:
    assert speak(tmp_path, "--langs", "fr_fr", "--seed", "2").returncode == 0
    first, second = ({row[3] for row in rows_of(out, "fr_fr", "train")} for out in (corpus, tmp_path))
    assert len(first & second) < len(first) / 2


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("code", CODES)
def test_layout_is_that_of_fleurs(corpus: Path, code: str, split: str) -> None:
    rows = rows_of(corpus, code, split)
    with tarfile.open(corpus / "data" / code / "audio" / f"{split}.tar.gz") as archive:
        assert archive.getnames() == [f"{split}/{row[1]}" for row in rows]
        for row in rows:
            stream = archive.extractfile(f"{split}/{row[1]}")
            assert stream is not None
            with wave.open(io.BytesIO(stream.read())) as audio:
                assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (16_000, 1, 2)
                assert audio.getnframes() == int(row[5])
                assert any(audio.readframes(audio.getnframes())), "silence"
    for identifier, name, raw, transcription, characters, _, gender in rows:
        assert identifier.isdigit() and re.fullmatch(r"\d+\.wav", name)
        assert characters == " ".join(transcription.replace(" ", "|")) + " |"
        assert transcription == speak_sentences.transcribe(raw)
        assert gender in ("MALE", "FEMALE")
    assert sum(int(row[5]) for row in rows) >= 0.15 * 60 * 16_000


@pytest.mark.parametrize("code", CODES)
def test_no_sentence_and_no_file_name_twice(corpus: Path, code: str) -> None:
    rows = [row for split in SPLITS for row in rows_of(corpus, code, split)]
    for column in (0, 1, 3):
        assert len({row[column] for row in rows}) == len(rows)


def test_no_voice_speaks_in_two_splits() -> None:
    voices = [voice for split in SPLITS for voice in speak_corpus.VOICES[split]]
    assert len(set(voices)) == len(voices)


def test_scripts_without_spaces_have_none(corpus: Path) -> None:
    assert not any(" " in row[2] or " " in row[3] for row in rows_of(corpus, "ja_jp", "train"))


def test_what_is_finished_is_skipped_and_what_changed_is_spoken_anew(corpus: Path, tmp_path: Path) -> None:
    speak(tmp_path, "--langs", "fr_fr")
    table = tmp_path / "data" / "fr_fr" / "train.tsv"
    before = table.stat().st_mtime_ns
    assert "1 are there, 0 to do" in speak(tmp_path, "--langs", "fr_fr").stdout
    assert table.stat().st_mtime_ns == before
    assert "0 are there, 1 to do" in speak(tmp_path, "--langs", "fr_fr", "--seed", "2").stdout
    assert table.stat().st_mtime_ns != before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_corpus_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    table = tmp_path / "data" / "fr_fr" / "train.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("real speech")
    result = speak(tmp_path, "--langs", "fr_fr")
    assert result.returncode == 2
    assert "holds a corpus that speak_corpus.py did not make" in result.stderr
    assert table.read_text() == "real speech"


def test_unknown_language_is_named_with_the_known_ones(tmp_path: Path) -> None:
    result = speak(tmp_path, "--langs", "xx_yy")
    assert result.returncode == 2
    assert "no word lists for xx_yy" in result.stderr and "fr_fr" in result.stderr
    assert not (tmp_path / "data").exists()


def test_minutes_that_are_not_positive_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--minutes is 0; expected more than 0"):
        speak_corpus.speak_corpus(tmp_path, ["fr_fr"], minutes=0, seed=1, jobs=1)


def test_unknown_voice_is_named() -> None:
    with pytest.raises(ValueError, match="no voice 'fr-fr\\+m1'"):
        speak_espeak.Espeak(1).speak("bonjour", "fr-fr+m1", rate=150, pitch=50, pitch_range=50, volume=80)


def test_every_language_draws_the_letters_of_its_own_script() -> None:
    scripts = {"bn_in": "BENGALI", "ru_ru": "CYRILLIC", "ko_kr": "HANGUL", "ja_jp": "HIRAGANA"}
    for code, lang in speak_sentences.load_languages().items():
        rng, spoken = random.Random(0), set[str]()
        for _ in range(100):
            _, transcription = speak_sentences.draw_new_sentence(lang, rng, spoken)
            letters = transcription.replace(" ", "").replace("'", "")
            assert all(unicodedata.name(c).startswith(scripts.get(code, "LATIN")) for c in letters), transcription


def test_speaks_where_espeaks_data_lie_deeper_than_it_can_read(tmp_path: Path) -> None:
    speak_one = """
import sys; sys.path.insert(0, sys.argv[1])
import espeakng_loader, speak_espeak
from pathlib import Path
deep = Path(sys.argv[2], "d" * 180)
deep.symlink_to(espeakng_loader.get_data_path())
espeakng_loader.get_data_path = lambda: str(deep)
audio = speak_espeak.Espeak(1).speak("hello there", "en-us+m1", rate=150, pitch=50, pitch_range=50, volume=80)
print(len(audio) > 8_000, audio.std() > 500)
"""
    command = [sys.executable, "-c", speak_one, str(TOOL.parent), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "True True\n"
