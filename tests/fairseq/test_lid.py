"""The LID task: what is drawn and cut, who has which class, what is logged, and that a small model learns."""

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from fairseq.logging import metrics as fairseq_metrics
from omegaconf import OmegaConf

from mms_recipes import checkpoints, files, manifest
from mms_recipes.criterions.lid import LIDCriterion
from mms_recipes.data.identification import IdentificationDataset
from mms_recipes.lid import checkpoints as lid_checkpoints
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.tasks.lid import LIDTask, LIDTaskConfig, class_weights, read_corpora
from tests.fairseq import tones
from tests.fairseq.small import Pretrained
from tests.fairseq.test_ranks import train_on_two_ranks

RATE = 16_000


def write_corpus(folder: Path, **seconds: list[float]) -> Path:
    """A corpus of noise: folder/<lang>/{train,dev}.tsv with utterances of these lengths."""
    for lang, lengths in seconds.items():
        lang = lang.replace("_script", "-script")
        for split in ("train", "dev"):
            rows = []
            for number, length in enumerate(lengths):
                path = folder / lang / f"{split}_{number}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                samples = np.random.default_rng(number).uniform(-0.5, 0.5, int(length * RATE))
                soundfile.write(path, samples, RATE, subtype="FLOAT")
                rows.append(f"{path.name}\t{len(samples)}\n")
            files.write_text(folder / lang / f"{split}.tsv", f"{folder / lang}\n" + "".join(rows))
    return folder


def lid_task(data: Path, **changes: Any) -> LIDTask:
    cfg = OmegaConf.structured(LIDTaskConfig(data=str(data), **changes))
    OmegaConf.set_struct(cfg, False)
    cfg.seed, cfg.max_update = 1, 10
    return LIDTask(cfg)


def train_set(data: Path, **changes: Any) -> IdentificationDataset:
    task = lid_task(data, **changes)
    task.load_dataset("train")
    dataset: IdentificationDataset = task.datasets["train"]
    return dataset


# ---- classes


def test_folders_of_one_language_share_a_class(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", azj_script_latin=[1.0], eng=[1.0])
    write_corpus(tmp_path / "b", azb=[1.0], urd_script_arabic=[1.0])
    task = lid_task(tmp_path)
    task.load_dataset("train")
    dataset = task.datasets["train"]
    assert task.classes == ["aze", "eng", "urd"]
    assert dataset.langs == ["a/azj-script_latin", "a/eng", "b/azb", "b/urd-script_arabic"]
    assert dataset.targets == [0, 1, 0, 2]
    batch = dataset.collater([dataset[index] for index in (3, 1)])
    assert batch["target"].tolist() == [2, 1]


def test_folder_without_a_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_corpus(tmp_path / "a", eng=[1.0], xyz=[1.0])
    classes = tmp_path / "dict.lang.txt"
    classes.write_text("eng 1\n")
    told = r"1 language folder\(s\) whose language is none of the 1 classes of task.classes=.*dict.lang.txt; add them"
    with pytest.raises(ValueError, match=told) as found:
        train_set(tmp_path, classes=str(classes))
    assert str(found.value).splitlines()[1:] == [f"{tmp_path}/a/xyz/train.tsv:2: xyz, 1 utterances"]
    assert train_set(tmp_path, classes=str(classes), leave_out_others=True).langs == ["a/eng"]
    assert "train: 1 folders have no class and are left out: a/xyz" in caplog.text
    classes.write_text("fra 1\n")
    with pytest.raises(ValueError, match=r"no language folder with train.tsv has a class in task.classes="):
        train_set(tmp_path, classes=str(classes), leave_out_others=True)


def test_class_without_training_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_corpus(tmp_path / "a", eng=[1.0])
    with pytest.raises(
        ValueError, match=r"125 of 126 classes have no training data: ara, cmn, spa, .* \.\.\.; prepare"
    ):
        train_set(tmp_path, classes="lid126")
    train_set(tmp_path, classes="lid126", allow_empty_classes=True)
    assert "125 of 126 classes have no training data" in caplog.text


# ---- what is drawn


def test_shares_are_of_corpora_then_languages(tmp_path: Path) -> None:
    """Two folders of one corpus and language count as one; worked by hand: eng 8 s and 2 s, fra 40 s."""
    write_corpus(tmp_path / "a", eng=[8.0], fra_script_x=[30.0], fra_script_y=[10.0])
    write_corpus(tmp_path / "b", eng=[2.0])
    corpora = read_corpora(lid_task(tmp_path).cfg, "train")
    assert [corpus.name for corpus in corpora] == ["a/eng", "a/fra-script_x", "a/fra-script_y", "b/eng"]
    alike = class_weights(corpora, [0, 1, 1, 0], beta_corpus=0.0, beta_lang=0.0)
    assert alike.tolist() == pytest.approx([0.25, 0.5 * 0.75, 0.5 * 0.25, 0.25])
    natural = class_weights(corpora, [0, 1, 1, 0], beta_corpus=1.0, beta_lang=1.0)
    assert natural.tolist() == pytest.approx([0.16, 0.6, 0.2, 0.04])
    reverse = class_weights(corpora, [0, 1, 1, 0], beta_corpus=0.5, beta_lang=1.0)
    assert reverse.tolist() == pytest.approx([0.2 * 2 / 3, 0.6, 0.2, 0.2 / 3])


def test_an_utterance_that_comes_again_is_another_part(tmp_path: Path) -> None:
    write_corpus(tmp_path, eng=[4.0], fra=[4.0] * 9)
    dataset = train_set(tmp_path, beta_lang=0.0, max_seconds=1.0)
    drawn = np.concatenate(dataset.batches(1, 5 * RATE))
    assert len(set(drawn.tolist())) == len(drawn)  # numbered
    of_eng = [int(index) for index in drawn if index % len(dataset) == 0]
    assert len(of_eng) == 5  # half of what an epoch draws
    parts = [dataset[index] for index in of_eng]
    assert {part["id"] for part in parts} == {0} and {len(part["source"]) for part in parts} == {RATE}
    assert len({tuple(part["source"][:10].tolist()) for part in parts}) == 5


def test_part_follows_seed_epoch_and_utterance_alone(tmp_path: Path) -> None:
    write_corpus(tmp_path / "a", eng=[4.0, 4.0])
    write_corpus(tmp_path / "b", fra=[4.0])
    settings: dict[str, Any] = {"max_seconds": 1.0, "noise_prob": 1.0, "speed_prob": 1.0}
    both, alone = train_set(tmp_path, **settings), train_set(tmp_path, corpora=["b"], **settings)
    assert torch.equal(both[2]["source"], alone[0]["source"])  # whatever else is in the job
    again = both[2]["source"]
    assert torch.equal(again, both[2]["source"])
    both.set_epoch(2)
    assert not torch.equal(again, both[2]["source"])
    assert not torch.equal(both[0]["source"], both[1]["source"])


def test_parts_are_no_longer_than_asked_and_normalised(tmp_path: Path) -> None:
    write_corpus(tmp_path, eng=[0.6, 3.0, 1.0])
    dataset = train_set(tmp_path, max_seconds=1.0, speed_prob=1.0, noise_prob=0.5, band_prob=0.5, gain_prob=0.5)
    for index in range(60):
        source = dataset[index]["source"]
        assert 0.6 * RATE / 1.1 - 1 <= len(source) <= RATE
        assert abs(float(source.mean())) < 1e-4 and float(source.std()) == pytest.approx(1, abs=1e-2)


def test_batches_stay_within_their_size_when_utterances_are_slowed_down(tmp_path: Path) -> None:
    write_corpus(tmp_path, eng=[1.0] * 12)
    dataset = train_set(tmp_path, max_seconds=3.0, speed_prob=1.0, speed_range=[0.5, 0.6])
    batches = dataset.batches(1, 4 * RATE)
    sources = [dataset.collater([dataset[int(i)] for i in batch])["net_input"]["source"] for batch in batches]
    assert max(source.numel() for source in sources) <= 4 * RATE
    assert max(source.shape[1] for source in sources) > 1.6 * RATE


def test_dev_is_the_middle_and_never_changed(tmp_path: Path) -> None:
    write_corpus(tmp_path, eng=[1.0, 5.0])
    task = lid_task(tmp_path, max_dev_seconds=2.0, noise_prob=1.0, normalize=False)
    task.load_dataset("dev")
    dataset = task.datasets["dev"]
    whole, _ = soundfile.read(tmp_path / "eng" / "dev_1.wav", dtype="float32")
    assert torch.equal(dataset[1]["source"], torch.from_numpy(whole[int(1.5 * RATE) : int(3.5 * RATE)]))
    assert len(dataset[0]["source"]) == RATE
    assert sorted(np.concatenate(dataset.batches(1, 10 * RATE)).tolist()) == [0, 1]


def test_what_is_too_short_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_corpus(tmp_path, eng=[0.01, 1.0], fra=[0.01])
    dataset = train_set(tmp_path, allow_empty_classes=True)
    assert dataset.langs == [f"{tmp_path.name}/eng"] and dataset.epoch_indices(1).tolist() == [1]
    assert "fra has 0.5 s; left out" in caplog.text and "train: 1 utterances are shorter than" in caplog.text
    with pytest.raises(ValueError, match=r"task.min_seconds=0.02: expected at least 0.1: the model looks at 0.025 s"):
        train_set(tmp_path, min_seconds=0.02)
    with pytest.raises(ValueError, match=r"no language has a train.tsv with an utterance of task.min_seconds=2; prep"):
        train_set(tmp_path, min_seconds=2.0)


# ---- criterion


class Model(torch.nn.Module):
    """Logits that are given; counts how often it is asked."""

    def __init__(self, logits_BL: list[list[float]]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits_BL))
        self.asked = 0

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.asked += 1
        return self.logits[rows]


def criterion(label_smoothing: float = 0.0) -> LIDCriterion:
    task = SimpleNamespace(
        classes=["eng", "fra", "rus"], target_dictionary=None, name=lambda index, training: f"utterance {index}"
    )
    return LIDCriterion(task, label_smoothing)


def sample(targets: list[int]) -> dict[str, Any]:
    rows = torch.arange(len(targets))
    return {"id": rows + 10, "seconds": 1.0, "target": torch.tensor(targets), "net_input": {"rows": rows}}


LOGITS = [[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [0.0, 2.0, 1.0], [4.0, 0.0, 0.0]]


def test_loss_and_accuracy_from_one_forward_pass() -> None:
    model = Model(LOGITS)
    loss, size, log = criterion()(model, sample([0, 1, 2, 1]))
    assert model.asked == 1 and size == 4 and log["correct"] == 2
    expected = torch.nn.functional.cross_entropy(torch.tensor(LOGITS), torch.tensor([0, 1, 2, 1]), reduction="sum")
    assert float(loss) == pytest.approx(float(expected)) == pytest.approx(log["loss"])


def test_micro_and_macro_accuracy_over_batches() -> None:
    """eng 1 of 1, fra 1 of 2, rus 0 of 1: micro 50 %, macro (100 + 50 + 0) / 3."""
    model = Model(LOGITS).eval()
    with fairseq_metrics.aggregate(new_root=True) as seen:
        for targets in ([0, 1], [0, 0, 2, 1]):
            _, _, log = criterion()(model, sample(targets) if len(targets) == 2 else _last_two(targets))
            LIDCriterion.reduce_metrics([log])
    values = seen.get_smoothed_values()
    assert values["accuracy"] == pytest.approx(50) and values["macro_accuracy"] == pytest.approx(50)
    assert "class_total" not in values  # what begins with _ is not printed


def _last_two(targets: list[int]) -> dict[str, Any]:
    whole = sample(targets)
    return whole | {"id": whole["id"][2:], "target": whole["target"][2:], "net_input": {"rows": torch.tensor([2, 3])}}


def test_label_smoothing_is_for_training_alone() -> None:
    plain, smooth = criterion(), criterion(0.2)
    model = Model(LOGITS)
    batch = sample([0, 1, 2, 1])
    assert float(smooth(model, batch)[0]) > float(plain(model, batch)[0])
    model.eval()
    assert float(smooth(model, batch)[0]) == float(plain(model, batch)[0])


def test_utterance_with_nan_is_named_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    model = Model([LOGITS[0], [float("nan")] * 3, LOGITS[2]])
    loss, size, log = criterion()(model, sample([0, 1, 2]))
    assert size == 2 and log["skipped"] == 1 and torch.isfinite(loss)
    assert "loss is not finite for utterance 11; it is skipped" in caplog.text
    _, size, log = criterion()(Model([[float("nan")] * 3]).eval(), sample([1]))
    assert size == 0 and log["skipped"] == 1 and log["class_total"].tolist() == [0, 0, 0]
    _, _, good = criterion()(Model(LOGITS).eval(), sample([1]))
    assert list(log) == list(good)  # ranks send one another values alone, in this order


# ---- training


@pytest.mark.slow
def test_a_small_model_learns_and_its_file_is_whole(
    tmp_path: Path, pretrained: Pretrained, caplog: pytest.LogCaptureFixture
) -> None:
    """Four languages of tones, from random weights; the checkpoint needs no base and no other file."""
    data = tones.write_corpus(tmp_path / "data", train=20, dev=5)
    with caplog.at_level(logging.INFO):
        run = tones.train("smoke_lid", data, tmp_path / "runs", f"model.base={pretrained.path}", "model.mask_prob=0.1")
    assert "dev accuracy:" in caplog.text
    pretrained.path.unlink()
    best = run / "checkpoints" / "checkpoint_best.pt"
    identifier = load_identifier(best, torch.device("cpu"))
    assert identifier.classes == sorted(tones.LETTERS)
    answers: Counter[bool] = Counter()
    for lang in tones.LETTERS:
        table = manifest.read_manifest(data / lang / "test.tsv")
        for row in range(len(table)):
            source, _ = soundfile.read(table.path(row), dtype="float32")
            source_S = torch.nn.functional.layer_norm(torch.from_numpy(source), (len(source),))
            answer = identifier.logits(source_S[None], torch.tensor([len(source)])).argmax()
            answers[identifier.classes[int(answer)] == lang] += 1
    assert answers[True] >= 0.9 * answers.total()


@pytest.mark.slow
def test_frozen_encoder_stays_and_a_checkpoint_of_fewer_languages_grows(tmp_path: Path, pretrained: Pretrained) -> None:
    few = tones.write_corpus(tmp_path / "few", ["eng", "fra"], train=8, dev=2)
    all_four = tones.write_corpus(tmp_path / "all", train=8, dev=2)
    short = ("optimization.max_update=4", "checkpoint.save_interval_updates=4", "dataset.validate_interval_updates=4")
    first = tones.train("smoke_lid", few, tmp_path / "runs", f"model.base={pretrained.path}", *short)
    last = first / "checkpoints" / "checkpoint_last.pt"
    trained = lid_checkpoints.read_lid(last)
    assert trained.classes == ["eng", "fra"]
    settings = ("name=grown", f"model.base={last}", "model.freeze_encoder=true", "optimization.lr=[1e-9]")
    grown = lid_checkpoints.read_lid(
        tones.train("smoke_lid", all_four, tmp_path / "runs", *settings, *short) / "checkpoints" / "checkpoint_last.pt"
    )
    assert grown.classes == ["eng", "fra", "jpn", "rus"]
    for name, tensor in trained.base.encoder_state.items():
        assert torch.equal(tensor, grown.base.encoder_state[name]), name
    for name in ("linear.weight", "linear.bias", "projection.weight", "projection.bias"):
        torch.testing.assert_close(grown.head[name][: len(trained.head[name])], trained.head[name], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_two_ranks_count_all_of_dev(tmp_path: Path, pretrained: Pretrained) -> None:
    """With nothing learnt, accuracy over two ranks' shares of dev is that of one rank over all of it."""
    data = tones.write_corpus(tmp_path / "data", train=8, dev=5)
    settings = (f"model.base={pretrained.path}", "optimization.lr=[1e-9]", "optimization.max_update=2")
    settings += ("dataset.validate_interval_updates=2", "checkpoint.save_interval_updates=2")
    settings += ("dataset.max_tokens_valid=40000",)
    one = tones.train("smoke_lid", data, tmp_path / "one", *settings)
    two = train_on_two_ranks("smoke_lid", data, tmp_path / "two", *settings)
    states = [checkpoints.load_checkpoint(run / "checkpoints" / "checkpoint_best.pt") for run in (one, two)]
    best = [state["extra_state"]["best"] for state in states]
    assert best[0] == pytest.approx(best[1]) and 0 < best[0] < 100
    for name, tensor in states[0]["model"].items():
        torch.testing.assert_close(states[1]["model"][name], tensor, atol=1e-6, rtol=0)


def test_base_of_another_normalisation_or_none(tmp_path: Path, pretrained: Pretrained) -> None:
    data = tones.write_corpus(tmp_path / "data", ["eng", "fra"], train=4, dev=2)
    with pytest.raises(
        ValueError, match=r"trained with normalize=True, but task.normalize=False; add task.normalize=t"
    ):
        tones.train("smoke_lid", data, tmp_path, f"model.base={pretrained.path}", "task.normalize=false")
    with pytest.raises(FileNotFoundError, match=r"nothing.pt: no such checkpoint"):
        tones.train("smoke_lid", data, tmp_path, f"model.base={tmp_path / 'nothing.pt'}")
    empty = tmp_path / "folder"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"folder: a folder; expected a .pt file or a Hug"):
        tones.train("smoke_lid", data, tmp_path, f"model.base={empty}")


@pytest.mark.slow
def test_head_alone_learns_first(tmp_path: Path, pretrained: Pretrained) -> None:
    data = tones.write_corpus(tmp_path / "data", train=8, dev=2)
    length = ("optimization.max_update=4", "checkpoint.save_interval_updates=4", "dataset.validate_interval_updates=4")
    states = []
    for updates in (4, 2):
        settings = (f"name=lid_{updates}", f"model.freeze_updates={updates}", "model.freeze_features=true")
        run = tones.train("smoke_lid", data, tmp_path / "runs", f"model.base={pretrained.path}", *settings, *length)
        states.append(checkpoints.load_checkpoint(run / "checkpoints" / "checkpoint_last.pt")["model"])
    name = "w2v_encoder.w2v_model.encoder.layers.0.fc1.weight"
    start = pretrained.model.state_dict()["encoder.layers.0.fc1.weight"]
    assert torch.equal(states[0][name], start) and not torch.equal(states[1][name], start)
    convolution = "feature_extractor.conv_layers.0.0.weight"  # frozen for good
    expected = pretrained.model.state_dict()[convolution]
    assert torch.equal(states[1][f"w2v_encoder.w2v_model.{convolution}"], expected)
