"""Transcribing: many files and languages in one pass are each file alone; bad ones are told; memory may run out."""

import glob
import io
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from omegaconf import OmegaConf

import mms_recipes.transcription.listener
from mms_recipes import adapter_files, checkpoints, recordings, transcribe, transcriber
from mms_recipes.adapter_files import Adapter
from mms_recipes.data import audio
from mms_recipes.lid import answers, calibration, spans
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.models.convolutions import PIECE_FRAMES
from mms_recipes.models.encoder import FrozenEncoder
from mms_recipes.recognizer import load_recognizer
from mms_recipes.sound import levels
from mms_recipes.sources import Source
from mms_recipes.transcriber import Transcriber
from mms_recipes.transcription.listener import Limits
from mms_recipes.transcription.routing import Routes
from tests.fairseq import lid_models
from tests.fairseq.small import Pretrained, dictionary, small_config
from tests.fairseq.test_decoding import write_arpa

LETTERS = {"eng": "|abcdef", "fra": "|abcdefgh", "jpn": "|あいう"}


def write_adapters(folder: Path, base_path: Path) -> Path:
    """Random adapters and heads that are sure of what they hear."""
    base = checkpoints.read_base(base_path)
    sizes = [len(dictionary(letters)) for letters in LETTERS.values()]
    stack = AdapterStack(list(LETTERS), sizes, base.cfg.encoder_layers, base.cfg.encoder_embed_dim, 4)
    stack.reset(seed=3, init="kaiming")
    stack.heads.weight.data *= 8
    for lang, letters in LETTERS.items():
        known = {"base_hash": base.hash, "num_updates": 1, "dev_cer": None, "base_path": str(base_path)}
        tensors = stack.language_state(lang)
        adapter_files.write_adapter(
            folder, Adapter(lang, letters=dictionary(letters).symbols, tensors=tensors, **known)
        )
    return folder


@pytest.fixture
def adapters(pretrained: Pretrained, tmp_path: Path) -> Path:
    return write_adapters(tmp_path / "adapters", pretrained.path)


def voice(seconds: float, seed: int) -> np.ndarray:
    """Sounds that change ten times a second, with pauses."""
    rng = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * 16_000:
        time = np.arange(1600) / 16_000
        tone = np.sin(2 * np.pi * rng.uniform(100, 4000) * time) * (rng.random() < 0.8)
        parts.append(tone + 0.05 * rng.standard_normal(1600))
    return (0.3 * np.concatenate(parts)).astype(np.float32)[: int(seconds * 16_000)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    found = []
    for number, seconds in enumerate((1.0, 3.1, 0.4, 2.2, 5.0, 0.9, 1.7)):
        found.append(tmp_path / f"{number}.wav")
        soundfile.write(found[-1], voice(seconds, number), 16_000)
    return found


MIXED = ["fra", "eng", "jpn", "eng", "fra", "jpn", "eng"]


def alone(checkpoint: Path, path: Path, lang: str) -> str:
    """What the recognizer makes of one file."""
    recognizer = load_recognizer(checkpoint, torch.device("cpu"), [lang])
    padded, padding = audio.pad([torch.from_numpy(levels.standardized(recordings.read(path)[0]))])
    return recognizer.transcribe(padded, (~padding).sum(1), [lang])[0]


def test_mixed_languages_in_one_pass_are_each_file_alone(adapters: Path, files: list[Path]) -> None:
    found = Transcriber(adapters, limits=Limits(batch=8)).transcribe(files, MIXED)
    assert [transcript.path for transcript in found] == files and [one.lang for one in found] == MIXED
    expected = [alone(adapters, path, lang) for path, lang in zip(files, MIXED, strict=True)]
    assert [transcript.text for transcript in found] == expected
    assert len(set(expected)) == len(files) and min(map(len, expected)) > 1  # the model says something
    for transcript, seconds in zip(found, (1.0, 3.1, 0.4, 2.2, 5.0, 0.9, 1.7), strict=True):
        assert transcript.seconds == pytest.approx(seconds) and 0 < transcript.score <= 1
        spelt = "".join(word.text for word in transcript.words)
        assert spelt == transcript.text.replace(" ", "")
        assert all(0 <= word.start < word.end <= seconds for word in transcript.words)


def test_languages_asked_for_later_are_added(adapters: Path, files: list[Path]) -> None:
    model = Transcriber(adapters)
    first = model.transcribe(files[:2], "eng")
    assert model.recognizer.adapters is not None and model.recognizer.adapters.langs == ["eng"]
    second = model.transcribe(files[:2], ["fra", "eng"])
    assert second[1].text == first[1].text and second[0].text == alone(adapters, files[0], "fra")


def test_one_file_checkpoint_is_its_adapters(adapters: Path, files: list[Path], tmp_path: Path) -> None:
    base = checkpoints.read_base(adapter_files.read_adapter(adapters / "eng.safetensors").base_path)
    adapter_files.write_one_file(tmp_path / "one.pt", base, list(adapter_files.read_adapters(adapters).values()))
    one_file, folder = (Transcriber(path).transcribe(files, MIXED) for path in (tmp_path / "one.pt", adapters))
    assert [transcript.text for transcript in one_file] == [transcript.text for transcript in folder]


def test_bad_files_are_told_in_their_places(adapters: Path, files: list[Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "short.wav", np.zeros(300), 16_000)
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    (tmp_path / "text.wav").write_text("hello")
    bad = [tmp_path / name for name in ("empty.wav", "short.wav", "film.mp4", "text.wav", "missing.flac")]
    mixed = [bad[0], files[0], *bad[1:], files[1]]
    found = Transcriber(adapters).transcribe(mixed, "eng")
    assert [transcript.path for transcript in found] == mixed
    assert [bool(transcript.error) for transcript in found] == [True, False, True, True, True, True, False]
    said = [str(transcript.error) for transcript in found if transcript.error]
    assert said[0] == f"{bad[0]}: holds no samples"
    assert said[1] == f"{bad[1]}: 0.019 s, shorter than what the model looks at at a time (0.020625 s)"
    assert "not readable as audio" in said[2] and "not readable as audio" in said[3] and "no such file" in said[4]
    assert found[-1].text == alone(adapters, files[1], "eng")


def test_an_adapter_under_another_name_is_told(adapters: Path, files: list[Path]) -> None:
    (adapters / "eng.safetensors").rename(adapters / "deu.safetensors")
    with pytest.raises(ValueError, match=r"deu\.safetensors: the adapter of 'eng' under another name; give it its own"):
        Transcriber(adapters).transcribe(files, "deu")


def test_bad_languages_are_told_before_anything_is_heard(adapters: Path, files: list[Path]) -> None:
    model = Transcriber(adapters)
    with pytest.raises(ValueError, match=r"no adapter for frc \(nearest: fra\).*; there are 3: eng, fra, jpn"):
        model.transcribe(files, ["frc", *MIXED[1:]])
    with pytest.raises(ValueError, match="unknown language or set 'engl'"):
        model.transcribe(files, "engl")
    with pytest.raises(ValueError, match="2 languages for 7 files; give one for each, or one for all"):
        model.transcribe(files, ["eng", "fra"])
    with pytest.raises(ValueError, match=r"0\.wav: which language\? Give --lang, or a column in the list"):
        list(model.stream([Source(path) for path in files], None, lambda seconds: None))
    with pytest.raises(ValueError, match=r"language auto: give the model that identifies languages \(--lid\)"):
        model.transcribe(files, "auto")
    with pytest.raises(ValueError, match=r"no adapter for deu \(nearest: none\)"):
        Transcriber(adapters, routes=Routes(fallback="deu"))


def test_limits_that_cannot_be_are_told() -> None:
    for limits, said in (
        ({"batch": 0.5}, "--batch-seconds is 0.5, expected 1 or more"),
        ({"whole": -1}, "--whole-seconds is -1, expected 0 or more"),
        ({"window": 10}, "--window-seconds is 10, expected at least 16"),
    ):
        with pytest.raises(ValueError, match=said):
            Limits(**limits)


# ---- long audio


def test_long_audio_is_heard_in_windows_of_known_frames(adapters: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    samples = voice(70.3, 1)
    soundfile.write(path, samples, 16_000)
    whole = Transcriber(adapters).transcribe([path], "eng")[0]
    cut = Transcriber(adapters, limits=Limits(100, 20, 20)).transcribe([path], "eng")[0]
    assert whole.text == alone(adapters, path, "eng") and cut.seconds == whole.seconds == pytest.approx(70.3)
    assert abs(len(cut.text) - len(whole.text)) < 0.1 * len(whole.text)
    assert cut.words[-1].end > 69 and [w.start for w in cut.words] == sorted(w.start for w in cut.words)
    assert cut.text != whole.text  # attention is global: for random weights at least, a window is not the whole


def test_the_same_windows_come_from_a_file_and_from_memory(adapters: Path, tmp_path: Path) -> None:
    """Windows are streamed, or cut from audio in memory when that ran out: the frames are the same."""
    path = tmp_path / "long.wav"
    soundfile.write(path, voice(47.123, 2), 22_050)
    model = Transcriber(adapters)
    model.recognizer.add_languages(["eng"])
    listener = mms_recipes.transcription.listener.Listener(model.recognizer, Limits(100, 0, 20))
    job = mms_recipes.transcription.listener.Job(0, path, "eng", 47.123)
    ((_, streamed),) = listener.hear([job], lambda seconds: None)
    listener.limits.whole = 100
    (whole,) = listener._pieces(job)
    pieces = listener._cut(whole)
    frames = [(piece.first, found) for piece in pieces for _, found in listener._listen([piece])]
    np.testing.assert_array_equal(mms_recipes.transcription.windows.stitch(frames).path_T, streamed.frames.path_T)


def test_progress_tells_all_the_audio(adapters: Path, files: list[Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", voice(60, 1), 16_000)
    told: list[float] = []
    Transcriber(adapters, limits=Limits(30, 20, 20)).transcribe([*files, tmp_path / "long.wav"], "eng", told.append)
    assert len(told) > 3 and sum(told) == pytest.approx(60 + 14.3)


# ---- memory

SHORT_OF_MEMORY = """
import logging, resource, sys
from pathlib import Path
from mms_recipes.transcription.listener import Limits
from mms_recipes.transcriber import Transcriber

logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
checkpoint, limits, *files = sys.argv[1:]
model = Transcriber(checkpoint, limits=Limits(*map(float, limits.split(","))), device="cpu")
model.transcribe(files[:1], "eng")  # all that is loaded once is loaded
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 600 * 2**20, resource.RLIM_INFINITY))
for transcript in model.transcribe(files, "eng"):
    print(transcript.error or transcript.text)
"""


def short_of_memory(checkpoint: Path, limits: str, files: list[Path]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SHORT_OF_MEMORY, checkpoint, limits, *files]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=plain)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space")
def test_what_does_not_fit_into_memory_is_heard_in_smaller_parts(tmp_path: Path) -> None:
    cfg = small_config(encoder_ffn_embed_dim=16384, encoder_layers=1)  # 3.3 MB for a second of audio
    model_cfg = OmegaConf.to_container(cfg, enum_to_str=True) | {"_name": "wav2vec2"}
    task_cfg = {"_name": "audio_pretraining", "data": "", "normalize": True}
    torch.manual_seed(0)
    state = {"cfg": {"model": model_cfg, "task": task_cfg}, "model": Wav2Vec2Model(cfg).state_dict()}
    torch.save(state, tmp_path / "base.pt")
    adapters = write_adapters(tmp_path / "adapters", tmp_path / "base.pt")
    files = []
    for number in range(10):
        files.append(tmp_path / f"{number}.wav")
        soundfile.write(files[-1], voice(20, number), 16_000)
    found = short_of_memory(adapters, "200,300,20", files)
    assert found.returncode == 0, found.stderr
    assert "out of memory: batches of 100 s from here on" in found.stderr
    heard = Transcriber(adapters, limits=Limits(20))
    assert found.stdout.splitlines() == [transcript.text for transcript in heard.transcribe(files, "eng")]
    long = tmp_path / "long.wav"
    soundfile.write(long, voice(200, 0), 16_000)
    found = short_of_memory(adapters, "200,200,20", [files[0], long])
    assert found.returncode == 0, found.stderr
    assert "out of memory: audio of more than 100 s in windows from here on" in found.stderr
    heard.limits = Limits(100, 100, 20)
    assert found.stdout.splitlines()[1] == heard.transcribe([long], "eng")[0].text
    found = short_of_memory(adapters, "200,200,199", [files[0], long, files[1]])
    first, second, third = found.stdout.splitlines()
    assert f"{long}: 199 s of audio need more memory than there is (" in second
    assert "; take a smaller --window-seconds (now 199)" in second
    assert third == heard.transcribe(files[1:2], "eng")[0].text and first


# ---- language models, identification


@pytest.mark.slow
def test_a_language_model_decodes_stretches_as_evaluate_decodes_utterances(
    adapters: Path, files: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("flashlight.lib.text")
    from mms_recipes.decoding import beam, language_model
    from mms_recipes.transcription.lm_search import SEGMENT_SECONDS

    for lang in ("eng", "jpn"):
        (tmp_path / "lms" / lang).mkdir(parents=True)
        letters = [letter for letter in LETTERS[lang] if letter != "|"]
        write_arpa(tmp_path / "lms" / lang / language_model.MODEL, [[*letters, "|"], [*letters[:2], "|", *letters[2:]]])
    found = Transcriber(adapters, lm=tmp_path / "lms").transcribe(files[:3], ["eng", "jpn", "eng"])
    recognizer = load_recognizer(adapters, torch.device("cpu"), ["eng", "jpn"])
    for transcript in found:
        source = torch.from_numpy(levels.standardized(recordings.read(transcript.path)[0]))
        emissions_BTV, _ = recognizer.emissions(source[None], torch.tensor([len(source)]), [str(transcript.lang)])
        symbols = recognizer.dictionary(str(transcript.lang)).symbols
        space = beam.load_space(tmp_path / "lms" / str(transcript.lang), symbols, words=False)
        best = space.decoder(beam.BeamOptions()).decode(emissions_BTV[0, :, : len(symbols)].numpy())[0]
        assert transcript.text == recognizer.words(best.units, str(transcript.lang))
        assert transcript.score and transcript.words
    long = tmp_path / "long.wav"
    soundfile.write(long, voice(2.5 * SEGMENT_SECONDS, 4), 16_000)
    (stretched,) = Transcriber(adapters, lm=tmp_path / "lms").transcribe([long], "eng")
    assert stretched.words[-1].end > 2.4 * SEGMENT_SECONDS and len(stretched.text) > 3 * len(found[0].text)
    with pytest.raises(FileNotFoundError, match=r"lms/fra/lm\.bin: no such file; build it with tools/build_lm.py"):
        Transcriber(adapters, lm=tmp_path / "lms").transcribe(files[:1], "fra")


def test_a_languages_model_is_looked_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mms_recipes.transcription.lm_search import LMSearch

    (tmp_path / "eng").mkdir()
    write_arpa(tmp_path / "eng" / "lm.bin", [["ab", "ba"]])
    (tmp_path / "eng" / "lexicon.txt").write_text("ab a b |\nba b a |\nbb b b |\n")
    search, symbols = LMSearch(tmp_path), dictionary("|ab").symbols
    for _ in range(2):
        search.check("eng", symbols)
    assert caplog.text.count("does not know 1 of 3 words of its lexicon") == 1


def test_auto_sends_each_file_to_the_adapter_of_its_language(adapters: Path, files: list[Path], tmp_path: Path) -> None:
    lid = lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock())  # eng fra rus jpn swh
    heard = transcriber.Transcriber(adapters, lid=lid, routes=Routes(fallback="nearest"))
    found = heard.transcribe(files, "auto")
    for transcript, path in zip(found, files, strict=True):
        assert transcript.lang in LETTERS and 0 < transcript.lang_probability <= 1
        assert transcript.text == alone(adapters, path, transcript.lang)
        assert json.loads(transcript.as_json())["lang_probability"] == transcript.lang_probability
    identifier = mms_recipes.lid.identifier.load_identifier(lid, torch.device("cpu"))
    sound = spans.sound(recordings.read(files[0])[0])
    assert sound is not None
    source = torch.from_numpy(levels.standardized(sound))
    probabilities = identifier.logits(source[None], torch.tensor([len(source)])).softmax(-1)[0]
    first = identifier.classes[int(probabilities.argmax())]
    temperature = calibration.Temperature(10.0, 9, "data", "dev", answers.fingerprint(identifier))
    calibration.write_temperature(lid, temperature)  # as evaluate leaves it: much less sure
    (calm,) = Transcriber(adapters, lid=lid, routes=Routes(fallback="nearest")).transcribe(files[:1], "auto")
    assert calm.lang_probability is not None and found[0].lang_probability is not None
    assert calm.lang_probability < found[0].lang_probability and calm.lang == found[0].lang
    strict = Transcriber(adapters, lid=lid, routes=Routes(threshold=1.0)).transcribe(files[:1], "auto")[0]
    assert f"{files[0]}: sounds like {first}" in str(strict.error) and "less than 1" in str(strict.error)
    fixed = Transcriber(adapters, lid=lid, routes=Routes(fallback="jpn", threshold=1.0)).transcribe(files[:1], "auto")[
        0
    ]
    assert fixed.lang == "jpn" and "taken as jpn, the fallback" in str(fixed.remark)
    mixed = heard.transcribe(files[:3], ["eng", "auto", "fra"])
    assert mixed[0].lang_probability is None and mixed[1].lang == found[1].lang and mixed[2].lang == "fra"


def test_auto_of_silence(adapters: Path, tmp_path: Path) -> None:
    lid = lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock())
    silence = tmp_path / "silence.wav"
    soundfile.write(silence, np.zeros(32_000), 16_000)
    (refused,) = Transcriber(adapters, lid=lid).transcribe([silence], "auto")
    assert f"{silence}: less than 0.5 s of sound in its first 30 s, too little for its language" in str(refused.error)
    (sent,) = Transcriber(adapters, lid=lid, routes=Routes(fallback="jpn")).transcribe([silence], "auto")
    (near,) = Transcriber(adapters, lid=lid, routes=Routes(fallback="nearest")).transcribe([silence], "auto")
    assert near.lang in LETTERS
    assert sent.lang == "jpn" and sent.lang_probability == 0 and "taken as jpn, the fallback" in str(sent.remark)


# ---- the command


def command(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "mms_recipes.transcribe", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, check=False, input=stdin)


@pytest.mark.slow
def test_the_command_reads_lists_and_writes_json(adapters: Path, files: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "línea\nnueva y espacio.wav"
    odd.write_bytes(files[1].read_bytes())
    listed = f"{files[0]}\tfra\0{odd}\0{tmp_path}/none.wav\teng\0".encode()
    out = tmp_path / "out.jsonl"
    settings = ("--checkpoint", adapters, "--lang", "eng", "--null", "--format", "jsonl", "--out", out)
    found = command("-", *settings, stdin=listed)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["path"] for line in lines] == [str(files[0]), str(odd), f"{tmp_path}/none.wav"]
    assert lines[0]["text"] == alone(adapters, files[0], "fra") and lines[1]["text"] == alone(adapters, odd, "eng")
    assert found.returncode == 1 and f"none.wav: {lines[2]['error'].split(': ')[1]}" in found.stderr.decode()
    assert "1 of 3 files could not be used:" in found.stderr.decode() and found.stdout == b""
    assert "s of audio [" in found.stderr.decode()


@pytest.mark.slow
def test_opening_a_model_does_not_import_torchs_compiler(adapters: Path) -> None:
    code = "import sys; from mms_recipes.transcriber import Transcriber; "
    code += "Transcriber(sys.argv[1], device='cpu'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, adapters], check=False).returncode == 0


@pytest.mark.slow
def test_the_command_finds_bad_output_before_it_works(adapters: Path, files: list[Path], tmp_path: Path) -> None:
    found = command(files[0], "--checkpoint", tmp_path / "no model", "--lang", "eng", "--out", tmp_path / "no/out.txt")
    assert found.returncode == 1 and b"no/out.txt: cannot be written (No such file or directory)" in found.stderr
    found = command(tmp_path, "--checkpoint", adapters, "--lang", "fra", "--format", "srt", "--out", tmp_path / "subs")
    assert found.returncode == 0, found.stderr
    written = sorted(path.name for path in (tmp_path / "subs").iterdir())
    assert written == [f"{number}.srt" for number in range(7)]


# ---- docs/transcribe.md

PAGE = Path(__file__).parents[2] / "docs" / "transcribe.md"


@pytest.fixture
def as_on_the_page(pretrained: Pretrained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what the page's commands name."""
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings/one.wav", voice(1.5, 1), 16_000)
    soundfile.write(tmp_path / "recordings/two.flac", voice(2.5, 2), 22_050)
    adapters = write_adapters(tmp_path / "outputs/demo_lsah/adapters", pretrained.path)
    italian = adapter_files.read_adapter(adapters / "fra.safetensors")
    adapter_files.write_adapter(adapters, replace(italian, lang="ita"))
    lid = tmp_path / "outputs/demo_lid/checkpoints/checkpoint_best.pt"
    lid.parent.mkdir(parents=True)
    lid_models.write_stock(lid, lid_models.stock())
    (tmp_path / "list.tsv").write_text("recordings/two.flac\teng\nrecordings/one.wav\tita\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_example_runs(as_on_the_page: Path, capsys: pytest.CaptureFixture) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(PAGE), "exec"), {})
    said = capsys.readouterr().out
    assert (
        f"recordings/one.wav ita {alone(Path('outputs/demo_lsah/adapters'), Path('recordings/one.wav'), 'ita')}" in said
    )


def test_the_pages_commands_run(
    as_on_the_page: Path, capfdbinary: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    commands = [line.strip() for line in lines if "python -m mms_recipes.transcribe " in line]
    assert len(commands) == 6
    for line in commands:
        feed = {"find": b"recordings/one.wav\0recordings/two.flac\0", "list": Path("list.tsv").read_bytes()}
        piped = feed["find"] if line.startswith("find") else feed["list"] if line.endswith("< list.tsv") else b""
        words = shlex.split(line.partition("| ")[2] or line.partition(" < ")[0])
        arguments = [name for word in words[3:] for name in (sorted(glob.glob(word)) if "*" in word else [word])]
        monkeypatch.setattr(sys, "argv", ["transcribe", *arguments])
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(piped)))
        assert transcribe.main() == 0, line
    assert capfdbinary.readouterr().out.count(b"recordings/") >= 5
    heard = [json.loads(line) for line in Path("heard.jsonl").read_text().splitlines()]
    assert [(one["path"], one["lang"]) for one in heard] == [
        ("recordings/two.flac", "eng"),
        ("recordings/one.wav", "ita"),
    ]
    assert sorted(os.listdir("subtitles")) == ["one.srt", "two.srt"]


def test_the_front_of_long_audio_in_pieces_is_that_of_the_whole(pretrained: Pretrained) -> None:
    encoder = FrozenEncoder(pretrained.model.cfg)
    encoder.load(pretrained.model.state_dict())
    source = torch.from_numpy(voice(100.123, 5))
    whole_1CT = encoder.w2v.feature_extractor(source[None])
    torch.testing.assert_close(encoder.convolutions(source), whole_1CT[0].T, atol=1e-5, rtol=0)
    assert whole_1CT.shape[2] > 3 * PIECE_FRAMES
