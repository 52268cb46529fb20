"""Bad input ends with what was found, what was expected, where, and what to do; before training, or without harm."""

import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints, config, manifest, preflight, runner
from mms_recipes.criterions import ctc
from mms_recipes.evaluation import evaluator, recognition
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.tasks.finetuning import FinetuningTask
from tests.fairseq import lid_models, tones

LANGS = ("eng", "fra")
SHORT = ("optimization.max_update=2", "dataset.validate_interval_updates=1", "task.update_seconds=3")


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return (os.system, ("touch evil_ran",))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus (data) and a pretrained model (base.pt)."""
    folder = tmp_path_factory.mktemp("good")
    data = tones.write_corpus(folder / "data", LANGS, train=4, dev=2)
    run = tones.train("smoke_pretrain", data, folder / "runs", "optimization.max_update=1")
    shutil.copyfile(run / "checkpoints" / "checkpoint_last.pt", folder / "base.pt")
    return folder


@pytest.fixture
def data(good: Path, tmp_path: Path) -> Path:
    """A copy of the corpus to put mistakes into."""
    folder = Path(shutil.copytree(good / "data", tmp_path / "data"))
    for lang in LANGS:
        for tsv in (folder / lang).glob("*.tsv"):
            _, *rows = tsv.read_text().splitlines()
            tsv.write_text("\n".join([str(folder / lang / "audio"), *rows]) + "\n")
    return folder


@pytest.fixture
def train(good: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train LSAH shortly in this process."""

    def start(data: Path, *overrides: str) -> Path:
        base = () if any(o.startswith("model.base") for o in overrides) else (f"model.base={good / 'base.pt'}",)
        return tones.train("smoke_lsah", data, tmp_path / "runs", *SHORT, *base, *overrides)

    return start


def nothing_was_trained(folder: Path) -> bool:
    return not list(folder.rglob("*.pt")) + list(folder.rglob("*.safetensors"))


# ---- the real commands


def command(module: str, *arguments: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of one of our commands."""
    path = os.pathsep.join([str(config.PACKAGE.parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-m", f"mms_recipes.{module}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        (
            "train",
            ["+experiment=smoke_pretrain", "task.data=nowhere"],
            "task.data=nowhere: no such folder; give the folder of <corpus>/<lang>/train.tsv",
        ),
        ("train", ["+experiment=smoke_lash"], "smoke_lsah"),
        ("train", ["+experiment=smoke_lsah", "task.langz=[eng]"], "no such key; nearest: task.langs"),
        ("train", [], "no experiment given; add one of +experiment=ctc_1107"),
        ("evaluate", ["checkpoint=none.pt", "data=x", "out=y", "langs=[eng]"], "x/eng/test.tsv: no such file; prep"),
    ],
)
def test_command_ends_with_the_message_alone(tmp_path: Path, module: str, arguments: list[str], told: str) -> None:
    code, output = command(module, *arguments, folder=tmp_path)
    assert code == 1 and told in output, output
    assert "Traceback" not in output and "HYDRA_FULL_ERROR" not in output


def test_debug_variable_shows_where_it_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMS_RECIPES_DEBUG", "1")
    with pytest.raises(ValueError, match="wrong"), runner.errors_for_users():
        raise ValueError("wrong")
    monkeypatch.delenv("MMS_RECIPES_DEBUG")
    with pytest.raises(SystemExit, match="1"), runner.errors_for_users():
        raise ValueError("wrong")


# ---- manifests


def test_unknown_language_shows_the_nearest(good: Path, train: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"unknown language or set 'english'; nearest: eng \(English\)"):
        train(good / "data", "task.langs=[eng,english]")


def test_language_without_a_manifest(good: Path, train: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"data/deu/train\.tsv: no such file; prepare the corpus with tools/"):
        train(good / "data", "task.langs=[eng,deu]")


def test_the_best_of_two_splits(good: Path, train: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"dataset\.valid_subset=dev,test: the best is kept by one split"):
        train(good / "data", "dataset.valid_subset='dev,test'")


@pytest.mark.parametrize("experiment", ["smoke_lsah", "smoke_ctc"])
def test_labels_shorter_than_the_manifest(good: Path, data: Path, tmp_path: Path, experiment: str) -> None:
    labels = data / "fra" / "train.ltr"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"fra/train\.ltr:4: 3 labels for 4 utterances in train\.tsv; rebuild"):
        tones.train(experiment, data, tmp_path / "runs", f"model.base={good / 'base.pt'}")
    assert nothing_was_trained(tmp_path / "runs")


def test_dictionary_that_lacks_letters(data: Path, train: Callable[..., Path]) -> None:
    dictionary = data / "eng" / "dict.ltr.txt"
    kept = [line for line in dictionary.read_text().splitlines() if not line.startswith("c")]
    dictionary.write_text("\n".join(kept) + "\n")
    with pytest.raises(ValueError, match=r"eng/train\.ltr:\d+: 'c' \(U\+0063\); use the dictionary that was made"):
        train(data)


def test_dense_needs_the_letters_in_the_union(good: Path, data: Path, tmp_path: Path) -> None:
    dictionary = data / "dict.ltr.txt"
    kept = [line for line in dictionary.read_text().splitlines() if not line.startswith("g")]
    dictionary.write_text("\n".join(kept) + "\n")
    with pytest.raises(ValueError, match=r"fra/train\.ltr:\d+: 'g' "):
        tones.train("smoke_ctc", data, tmp_path / "runs", f"model.base={good / 'base.pt'}")


def test_text_too_long_for_its_audio_is_refused_in_train_and_told_in_dev(
    data: Path, train: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    for split in ("dev", "train"):
        for suffix, line in (("ltr", "a a b | " * 100), ("wrd", "aab " * 100)):
            path = data / "eng" / f"{split}.{suffix}"
            path.write_text("\n".join([line.strip(), *path.read_text().splitlines()[1:]]) + "\n")
        if split == "dev":
            with caplog.at_level(logging.WARNING):
                assert (train(data) / "adapters" / "eng.safetensors").is_file()
            assert "eng/dev.ltr:1: letters and repeats need 500 frames, the audio has" in caplog.text
    with pytest.raises(ValueError, match=r"eng/train\.ltr:1: letters and repeats need 500 frames, the audio has \d+"):
        train(data, "name=refused")


# ---- audio


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2_000])


def resample(path: Path) -> None:
    samples, _ = soundfile.read(path)
    soundfile.write(path, samples, 8_000, subtype="PCM_16")


def double(path: Path) -> None:
    samples, _ = soundfile.read(path)
    soundfile.write(path, np.stack([samples, samples], 1), 16_000, subtype="PCM_16")


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    # how, what preflight says, what the reader says when it comes up later
    "truncated": (truncate, "978 samples, but the manifest says", "978 samples, but its manifest says"),
    "empty": (lambda path: path.write_bytes(b""), "restore the file", "not readable as audio"),
    "no samples": (
        lambda path: soundfile.write(path, np.zeros(0), 16_000),
        "the file holds no samples",
        "0 samples, but",
    ),
    "not audio": (lambda path: path.write_text("hello " * 99), "restore the file", "not readable as audio"),
    "8 kHz": (resample, "8000 Hz, expected 16000", "8000 Hz with 1 channel(s), expected 16000 Hz mono"),
    "stereo": (double, "2 channels, expected 1", "16000 Hz with 2 channel(s), expected 16000 Hz mono"),
    "missing": (Path.unlink, "no such file", "no such file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_audio_is_found_before_training(data: Path, train: Callable[..., Path], kind: str) -> None:
    broken, told, _ = BROKEN[kind]
    broken(data / "eng" / "audio" / "train_2.wav")
    with pytest.raises(ValueError, match="1 to mend in the manifests") as raised:
        train(data)
    assert "eng/train.tsv:4: " in str(raised.value) and "train_2.wav" in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize("kind", BROKEN)
def test_audio_that_breaks_later_stops_the_run_by_name(
    data: Path, train: Callable[..., Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large corpus only the first files are looked at before training."""
    monkeypatch.setattr(preflight, "ALL_HEADERS", 0)
    broken, _, told = BROKEN[kind]
    broken(data / "eng" / "audio" / "train_2.wav")
    with pytest.raises(ValueError, match=r"train_2\.wav: ") as raised:
        train(data)
    assert told in str(raised.value)


@pytest.mark.slow
def test_error_of_a_data_worker_is_told_without_its_traceback(
    data: Path, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ALL_HEADERS", 0)
    resample(data / "eng" / "audio" / "train_2.wav")
    with pytest.raises(ValueError) as raised:
        train(data, "dataset.num_workers=1")
    told = runner.explain(raised.value)
    assert told.startswith(str(data)) and "8000 Hz" in told and "Traceback" not in told


@pytest.mark.parametrize("experiment", ["smoke_lsah", "smoke_ctc"])
def test_samples_that_are_no_numbers_are_named_and_skipped(
    good: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, experiment: str
) -> None:
    path = data / "eng" / "audio" / "train_1.wav"
    samples, rate = soundfile.read(path)
    samples[100] = np.nan
    soundfile.write(path, samples, rate, subtype="FLOAT")
    settings = ("optimization.max_update=3", "dataset.max_tokens=320_000", "model.mask_prob=0.3")  # all in one batch
    with caplog.at_level(logging.WARNING):
        run = tones.train(experiment, data, tmp_path / "runs", f"model.base={good / 'base.pt'}", *settings)
    named = [record.getMessage() for record in caplog.records if "loss is not finite" in record.getMessage()]
    assert named and all(f"eng: {path}; it is skipped" in line for line in named)
    state = checkpoints.load_checkpoint(run / "checkpoints" / "checkpoint_last.pt")
    assert state["optimizer_history"][-1]["num_updates"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    if experiment == "smoke_lsah":  # both languages learn from what is left
        settings = ("task.langs=[fra]", f"model.base={good / 'base.pt'}", *settings)
        alone = tones.train(experiment, data, tmp_path / "alone", *settings)
        languages = [adapter_files.read_adapters(folder / "adapters")["fra"].tensors for folder in (run, alone)]
        for name, tensor in languages[0].items():
            torch.testing.assert_close(tensor, languages[1][name], atol=1e-4, rtol=1e-3)


def test_a_batch_of_nothing_but_bad_utterances_changes_nothing(
    data: Path, train: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it shift what ranks add up: they send one another the values of a log without their names."""
    forward, logged = ctc.CTCCriterion.forward, set()

    def spy(self: ctc.CTCCriterion, model: Any, sample: Any, reduce: bool = True) -> Any:
        loss, size, log = forward(self, model, sample, reduce)
        logged.add((model.training, tuple(log)))
        return loss, size, log

    monkeypatch.setattr(ctc.CTCCriterion, "forward", spy)
    for path in (data / "eng" / "audio").glob("train_*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples * np.nan, rate, subtype="FLOAT")
    with caplog.at_level(logging.WARNING):
        run = train(data, "task.langs=[eng]")
    assert logged == {(True, ctc.SUMMED), (False, ctc.SUMMED + ctc.DEV_SUMMED)}
    assert "loss is not finite for eng: " in caplog.text
    tensors = adapter_files.read_adapters(run / "adapters")["eng"].tensors
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_only_blanks_are_told(
    good: Path, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reset = AdapterStack.reset

    def deaf(self: AdapterStack, seed: int, init: str) -> None:
        """Start with a head of eng that gives nothing but blanks."""
        reset(self, seed, init)
        with torch.no_grad():
            self.heads.bias[self.heads.rows(self.langs.index("eng")).start] = 1e3

    monkeypatch.setattr(AdapterStack, "reset", deaf)
    with caplog.at_level(logging.WARNING):
        train(good / "data")
    told = [record.getMessage() for record in caplog.records if "only blanks" in record.getMessage()]
    assert told and all("only blanks come out for eng after" in line for line in told)


def test_dev_scores_are_by_language(good: Path, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning above rests on this: what is recognised of one language is not counted for another."""
    recorded: list[tuple[str, str]] = []
    record = FinetuningTask.record

    def spy(self: FinetuningTask, lang: int, characters: object, words: object, reference: str, hyp: str) -> None:
        recorded.append((self.langs[lang], reference))
        record(self, lang, characters, words, reference, hyp)  # type: ignore[arg-type]

    monkeypatch.setattr(FinetuningTask, "record", spy)
    train(good / "data")
    for lang in LANGS:
        words = (good / "data" / lang / "dev.wrd").read_text().splitlines()
        assert {reference for found, reference in recorded if found == lang} == set(words)
    assert ctc.DEV_SUMMED  # the criterion that records them


# ---- checkpoints


def test_what_is_no_checkpoint_is_refused_as_base(
    good: Path, train: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    state = torch.load(good / "base.pt", weights_only=False)
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "cut.pt").write_bytes((good / "base.pt").read_bytes()[:5_000])
    torch.save(state | {"cfg": {"model": {"_name": "hubert"}, "task": {}}}, tmp_path / "hubert.pt")
    torch.save(state | {"extra": Evil()}, tmp_path / "evil.pt")
    told = {
        "none.pt": "no such checkpoint; expected a .pt file",
        "text.pt": r"(not a torch checkpoint|refused)",
        "cut.pt": r"(not a torch checkpoint, or cut off|refused)",
        "hubert.pt": "a 'hubert' model, expected wav2vec2",
        "evil.pt": r"refused: it holds Python objects .*system",
    }
    for name, message in told.items():
        with pytest.raises((ValueError, FileNotFoundError), match=f"{name}: {message}"):
            train(good / "data", f"model.base={tmp_path / name}")
    assert not (tmp_path / "evil_ran").exists() and nothing_was_trained(tmp_path / "runs")


def test_base_with_other_weights_than_its_config_says(good: Path, train: Callable[..., Path], tmp_path: Path) -> None:
    state = torch.load(good / "base.pt", weights_only=False)
    state["cfg"]["model"]["encoder_embed_dim"] = 64
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"found \(48.*expected \(64.*another architecture"):
        train(good / "data", f"model.base={tmp_path / 'other.pt'}")


def test_base_of_another_normalisation_and_without_a_head(good: Path, train: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"base\.pt: trained with normalize=True.*add task\.normalize=true"):
        train(good / "data", "task.normalize=false")
    with pytest.raises(ValueError, match=r"base\.pt: has no CTC head with a dictionary; give a dense CTC checkpoint"):
        train(good / "data", "model.head_init=dense")


def test_more_devices_than_there_are(good: Path, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    told = "distributed_world_size is 16, but this machine has 2 CUDA.*=2 and task.hours_per_update"
    with pytest.raises(ValueError, match=told):
        train(good / "data", "distributed_training.distributed_world_size=16")


# ---- disk


def test_full_disk_is_found_before_training(
    good: Path, train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"0\.00 GB free, but three checkpoints of .* GB are needed .*free some space"):
        train(good / "data")


def assert_old_checkpoint_survived(run: Path, before: bytes) -> None:
    last = run / "checkpoints" / "checkpoint_last.pt"
    assert last.read_bytes() == before
    assert checkpoints.num_updates(last) == 2
    assert not [path for path in run.rglob("*") if "tmp" in path.name or path.name.startswith(".link")]


FULL = r"checkpoint.*\.pt: the checkpoint could not be written \(.*\); .*start the same command again: it resumes"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here (needs root): see the test with a limit on file sizes")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("experiment", ["smoke_ctc", "smoke_lsah"])
def test_disk_that_fills_up_leaves_the_old_checkpoint(
    good: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, experiment: str
) -> None:
    settings = (
        f"model.base={good / 'base.pt'}",
        "dataset.validate_interval_updates=2",
        "checkpoint.save_interval_updates=2",
    )
    run = tones.train(experiment, good / "data", small_disk, *settings, "optimization.max_update=2")
    before = (run / "checkpoints" / "checkpoint_last.pt").read_bytes()
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * (shutil.disk_usage(small_disk).free - 40_000))
    monkeypatch.setattr(preflight, "check_disk", lambda folder, size: None)  # the disk fills up after that
    settings = (*settings, "optimization.max_update=4")
    with pytest.raises(OSError, match=FULL if experiment == "smoke_ctc" else "could not be written"):
        tones.train(experiment, good / "data", small_disk, *settings)
    assert_old_checkpoint_survived(run, before)
    filler.unlink()
    tones.train(experiment, good / "data", small_disk, *settings)  # and the same command resumes
    assert checkpoints.num_updates(run / "checkpoints" / "checkpoint_last.pt") == 4


@pytest.mark.slow
def test_file_that_cannot_grow_leaves_the_old_checkpoint(good: Path, tmp_path: Path) -> None:
    """As above through the real command, and without root."""
    settings = (f"model.base={good / 'base.pt'}", "dataset.validate_interval_updates=2")
    run = tones.train("smoke_ctc", good / "data", tmp_path, *settings, "optimization.max_update=2")
    before = (run / "checkpoints" / "checkpoint_last.pt").read_bytes()
    limit = len(before) // 2
    settings = (f"task.data={good / 'data'}", f"runs={tmp_path}", *settings, "optimization.max_update=4")
    result = subprocess.run(
        [sys.executable, "-m", "mms_recipes.train", "+experiment=smoke_ctc", *settings],
        cwd=config.PACKAGE.parent,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 1 and "Traceback" not in output, output
    assert "the checkpoint could not be written" in output and "it resumes" in output
    assert_old_checkpoint_survived(run, before)


# ---- evaluation


@pytest.fixture(scope="module")
def adapters(good: Path) -> Path:
    """Adapters of eng and fra on base.pt."""
    settings = (*SHORT, f"model.base={good / 'base.pt'}")
    return tones.train("smoke_lsah", good / "data", good / "adapted", *settings) / "adapters"


def test_a_command_that_is_refused_leaves_a_run_as_it_is(good: Path, adapters: Path) -> None:
    status = adapters.parent / "status.json"
    before = status.read_text()
    settings = (*SHORT, f"model.base={good / 'base.pt'}", "optimization.max_update=99", "optimization.lr=[0.9]")
    with pytest.raises(ValueError, match=r"made with another configuration \(optimization\.lr"):
        tones.train("smoke_lsah", good / "data", good / "adapted", *settings)
    assert status.read_text() == before and '"done"' in before


def evaluate(checkpoint: Path, data: Path, out: Path, **settings: object) -> Path:
    given = {"checkpoint": str(checkpoint), "data": str(data), "out": str(out)} | settings
    return evaluator.evaluate(OmegaConf.merge(OmegaConf.structured(config.EvaluateConfig), given))  # type: ignore[arg-type]


def test_what_was_typed_wrong(good: Path, adapters: Path, tmp_path: Path) -> None:
    data = good / "data"
    with pytest.raises(ValueError, match=r"device 'gpu': expected auto, cpu, cuda or cuda:N"):
        evaluate(adapters, data, tmp_path / "out", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device 'cuda': torch sees 0 CUDA devices here; give cpu or auto"):
            evaluate(adapters, data, tmp_path / "out", device="cuda")
    with pytest.raises(FileNotFoundError, match=r"no adapters .* in this folder; did you mean .*adapters\?"):
        evaluate(adapters.parent, data, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"a folder of adapters, which recognise speech; expected a \.pt"):
        checkpoints.load_checkpoint(adapters)
    lid = lid_models.write_stock(tmp_path / "lid.pt", lid_models.stock())
    with pytest.raises(ValueError, match=r"lid\.pt: a model that identifies languages, expected wav2vec2"):
        checkpoints.read_base(lid)
    (tmp_path / "notes.pt").write_text("# notes")
    with pytest.raises(ValueError, match=r"notes\.pt: not a torch checkpoint$"):
        checkpoints.load_checkpoint(tmp_path / "notes.pt")
    given = ["checkpoint=a", "data=b", "out=c"]
    code, output = command("evaluate", *given, "decoding.lm=lms", folder=tmp_path)
    assert code == 1 and "decoding.lm: is of a beam search, and this is greedy; add decoding=lm" in output
    code, output = command("evaluate", *given, "langs=eng", folder=tmp_path)
    assert code == 1 and "expected a list, as in 'langs=[eng,fra]'" in output


def test_evaluation_needs_something_to_load(good: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.pt: no such checkpoint"):
        evaluate(tmp_path / "none.pt", good / "data", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no adapters \(\*\.safetensors\) in this folder"):
        evaluate(tmp_path, good / "data", tmp_path / "out")
    with pytest.raises(ValueError, match=r"base\.pt: has no CTC head with a dictionary"):
        evaluate(good / "base.pt", good / "data", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no manifests, expected"):
        evaluate(good / "base.pt", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_adapter_that_is_missing_for_a_language(good: Path, adapters: Path, tmp_path: Path) -> None:
    some = Path(shutil.copytree(adapters, tmp_path / "some"))
    (some / "fra.safetensors").unlink()
    with pytest.raises(ValueError, match=r"some: no adapter for fra \(nearest: .*\); there are \d: eng"):
        evaluate(some, good / "data", tmp_path / "out")
    assert (evaluate(some, good / "data", tmp_path / "out", langs=["eng"]) / "scores.json").is_file()


def test_adapters_of_another_base_show_both_hashes(good: Path, adapters: Path, tmp_path: Path) -> None:
    state = torch.load(good / "base.pt", weights_only=False)
    state["model"]["encoder.layers.1.fc1.bias"] += 0.01
    torch.save(state, tmp_path / "other.pt")
    hashes = [checkpoints.read_base(path).hash for path in (good / "base.pt", tmp_path / "other.pt")]
    told = (
        rf"eng\.safetensors: 'eng' was trained on base {hashes[0]}, but the loaded base is {hashes[1]}; load .*base\.pt"
    )
    with pytest.raises(ValueError, match=told):
        evaluate(adapters, good / "data", tmp_path / "out", base=str(tmp_path / "other.pt"))
    with pytest.raises(FileNotFoundError, match=r"gone\.pt: not there; give the base of the adapters with base="):
        evaluate(adapters, good / "data", tmp_path / "out", base=str(tmp_path / "gone.pt"))


def test_no_number_unless_all_utterances_were_scored(
    good: Path, adapters: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "eng" / "test.wrd").write_text("aa\n")
    with pytest.raises(ValueError, match=r"eng/test\.wrd:2: 1 labels for 2 utterances in test\.tsv"):
        evaluate(adapters, data, tmp_path / "out")
    by_greedy = recognition.by_greedy
    monkeypatch.setattr(recognition, "by_greedy", lambda *arguments: list(by_greedy(*arguments))[:-1])
    with pytest.raises(ValueError, match=r"(eng|fra): scored 1 utterances, expected 2 as in its manifest"):
        evaluate(adapters, good / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "scores.json").exists()


def test_evaluation_stops_at_audio_that_is_broken(adapters: Path, data: Path, tmp_path: Path) -> None:
    path = manifest.read_manifest(data / "fra" / "test.tsv").path(1)
    resample(path)
    with pytest.raises(ValueError, match=rf"{path}: 8000 Hz, expected 16000"):
        evaluate(adapters, data, tmp_path / "out")
    assert not (tmp_path / "out" / "scores.json").exists()
