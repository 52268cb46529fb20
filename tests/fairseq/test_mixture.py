"""The mixture's epochs and LSAH's rounds: complete, reproducible, resumable, and the same on any number of ranks."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator

from mms_recipes import manifest, sampling
from mms_recipes.data import mixture
from mms_recipes.data.mixture import Corpus, MixtureDataset
from mms_recipes.data.rounds import RoundIterator, Rounds
from mms_recipes.tasks.finetuning import FinetuningConfig, FinetuningTask
from tests.fairseq import tones
from tests.fairseq.small import dictionary

SIZES = {"eng": 37, "fra": 11, "jpn": 3}  # 51 utterances: no multiple of 8, nor of the ranks below
MAX_SAMPLES = 64_000


def corpus(folder: Path, lang: str, count: int) -> Corpus:
    """A manifest without audio: utterances of 0.5 to 2 s."""
    (folder / lang).mkdir(exist_ok=True)
    generator = np.random.default_rng(len(lang) + count)
    samples = generator.integers(8_000, 32_000, count)
    rows = "".join(f"{number}.wav\t{size}\n" for number, size in enumerate(samples))
    (folder / lang / "train.tsv").write_text(f"audio\n{rows}")
    return Corpus(lang, manifest.read_manifest(folder / lang / "train.tsv"))


def dataset(folder: Path, beta: float | None = 1.0, seed: int = 1, langs: tuple[str, ...] = ()) -> MixtureDataset:
    corpora = [corpus(folder, lang, SIZES[lang]) for lang in langs or SIZES]
    hours = [corpus.utterances.seconds() / 3600 for corpus in corpora]
    weights = None if beta is None else sampling.sampling_weights(hours, beta)
    return MixtureDataset(corpora, weights=weights, seed=seed, normalize=True)


def listed(batches: list) -> list[list[int]]:
    return [list(map(int, batch)) for batch in batches]


# ---- epochs


@pytest.mark.parametrize("epoch", [1, 2, 5])
def test_beta_1_draws_every_utterance_once_an_epoch(tmp_path: Path, epoch: int) -> None:
    data = dataset(tmp_path)
    assert sorted(data.epoch_indices(epoch).tolist()) == list(range(51))
    batches = data.batches(epoch, MAX_SAMPLES)
    assert sorted(index for batch in listed(batches) for index in batch) == list(range(51))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, None])
@pytest.mark.parametrize("max_samples", [MAX_SAMPLES, 20_000, 1_000_000])
def test_batches_hold_exactly_the_epoch(tmp_path: Path, beta: float | None, max_samples: int) -> None:
    """Nothing is dropped, whatever the number of batches and utterances; padded batches keep the limit."""
    data = dataset(tmp_path, beta)
    batches = listed(data.batches(1, max_samples))
    assert sorted(index for batch in batches for index in batch) == sorted(data.epoch_indices(1).tolist())
    for batch in batches:
        longest = max(data.size(index) for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= max_samples


def test_batches_hold_utterances_of_like_length(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    real = sum(data.size(index) for index in range(51))
    padded = sum(len(batch) * max(map(data.size, batch)) for batch in listed(data.batches(1, MAX_SAMPLES)))
    assert padded < 1.2 * real


def test_beta_0_repeats_none_before_all_were_seen(tmp_path: Path) -> None:
    data = dataset(tmp_path, beta=0.0)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for epoch in range(1, 5):
        for index in data.epoch_indices(epoch).tolist():
            lang, row = data.locate(index)
            seen[lang].append(row)
    for lang, size in enumerate(SIZES.values()):
        for start in range(0, len(seen[lang]) - size, size):
            assert sorted(seen[lang][start : start + size]) == list(range(size))
    hours = [np.sum(data.corpora[lang].utterances.num_samples[rows]) for lang, rows in seen.items()]
    assert max(hours) / min(hours) < 1.3  # all languages alike


def test_epochs_follow_the_seed(tmp_path: Path) -> None:
    first = listed(dataset(tmp_path).batches(1, MAX_SAMPLES))
    assert listed(dataset(tmp_path).batches(1, MAX_SAMPLES)) == first
    assert listed(dataset(tmp_path).batches(2, MAX_SAMPLES)) != first
    assert listed(dataset(tmp_path, seed=2).batches(1, MAX_SAMPLES)) != first


def test_languages_are_mixed_in_training_batches(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    mixed = [{data.locate(index)[0] for index in batch} for batch in listed(data.batches(1, MAX_SAMPLES))]
    assert max(map(len, mixed)) > 1


def test_dev_and_test_come_once_in_every_epoch(tmp_path: Path) -> None:
    data = dataset(tmp_path, beta=None)
    assert listed(data.batches(1, MAX_SAMPLES)) == listed(data.batches(2, MAX_SAMPLES))
    assert data.epoch_indices(3).tolist() == list(range(51))


def test_an_utterance_longer_than_a_batch_is_a_batch_of_its_own(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    longest = int(np.argmax(data.num_samples))
    assert [longest] in listed(data.batches(1, data.size(longest) - 1))


def test_index_of_an_utterance_and_its_name(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    assert [data.locate(index) for index in (0, 36, 37, 47, 48, 50)] == [
        (0, 0),
        (0, 36),
        (1, 0),
        (1, 10),
        (2, 0),
        (2, 2),
    ]
    assert data.name(38) == f"fra: {tmp_path / 'fra' / 'audio' / '1.wav'}"


# ---- fairseq's iterator over them


def iterator(
    data: MixtureDataset, num_shards: int = 1, shard: int = 0, epoch: int = 1, num_workers: int = 0
) -> EpochBatchIterator:
    """As training makes it; a batch is the list of its indices."""
    task = FinetuningTask(FinetuningConfig())
    data.collater = list  # type: ignore[method-assign, assignment]
    data.__class__ = type("Indices", (MixtureDataset,), {"__getitem__": lambda self, index: int(index)})
    settings = {"max_tokens": MAX_SAMPLES, "num_shards": num_shards, "shard_id": shard, "epoch": epoch}
    settings["num_workers"] = num_workers
    return task.get_batch_iterator(data, **settings)  # type: ignore[arg-type]


def test_ranks_share_the_batches(tmp_path: Path) -> None:
    whole = list(iterator(dataset(tmp_path)).next_epoch_itr())
    shares = [list(iterator(dataset(tmp_path), 4, rank).next_epoch_itr()) for rank in range(4)]
    assert len({len(share) for share in shares}) == 1  # ranks make their updates together: an empty batch fills up
    together = [batch for share in shares for batch in share if batch]
    assert sorted(together) == sorted(whole) and len(whole) % 4
    assert sorted(index for batch in whole for index in batch) == list(range(51))


@pytest.mark.parametrize("split_weights", [1.0, None])
def test_data_workers_end_with_the_epoch(tmp_path: Path, split_weights: float | None) -> None:
    """fairseq stops by count; workers that were not told would hold up the run for seconds when they are collected."""
    made = iterator(dataset(tmp_path, split_weights), num_workers=2)
    batches = made.next_epoch_itr()
    taken = [next(batches) for _ in range(len(made))]
    assert sorted(index for batch in taken for index in batch) == list(range(51))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("done", [1, 5])
@pytest.mark.parametrize("epoch", [1, 2])
def test_resuming_in_mid_epoch_gives_the_batches_that_were_left(tmp_path: Path, done: int, epoch: int) -> None:
    uninterrupted = iterator(dataset(tmp_path, 0.5))
    for _ in range(1, epoch):
        list(uninterrupted.next_epoch_itr())
    batches = uninterrupted.next_epoch_itr()
    for _ in range(done):
        next(batches)
    state = uninterrupted.state_dict()
    left, following = list(batches), list(uninterrupted.next_epoch_itr())
    assert state["epoch"] == epoch and left
    resumed = iterator(dataset(tmp_path, 0.5), epoch=state["epoch"])  # fairseq's trainer makes it for that epoch
    resumed.load_state_dict(state)
    assert list(resumed.next_epoch_itr()) == left
    assert list(resumed.next_epoch_itr()) == following


# ---- rounds


def test_a_languages_batches_do_not_depend_on_the_others(tmp_path: Path) -> None:
    together = Rounds(dataset(tmp_path), update_seconds=5.0, max_samples=MAX_SAMPLES)
    for position, lang in enumerate(SIZES):
        alone = Rounds(dataset(tmp_path, langs=(lang,)), update_seconds=5.0, max_samples=MAX_SAMPLES)
        for update in (0, 1, 7, 100):
            mine = together.language_batch(position, update) - together.dataset.offsets[position]
            assert mine.tolist() == alone.language_batch(0, update).tolist()


def test_a_round_is_one_batch_of_each_language(tmp_path: Path) -> None:
    rounds = Rounds(dataset(tmp_path), update_seconds=5.0, max_samples=MAX_SAMPLES)
    for update in range(5):
        expected = [index for lang in range(3) for index in rounds.language_batch(lang, update).tolist()]
        batches = listed(rounds.micro_batches(update))
        assert sorted(index for batch in batches for index in batch) == sorted(expected)
        for batch in batches:
            longest = max(rounds.dataset.size(index) for index in batch)
            assert len(batch) == 1 or longest * len(batch) <= MAX_SAMPLES


def test_updates_of_a_language_hold_about_as_many_seconds_as_asked(tmp_path: Path) -> None:
    rounds = Rounds(dataset(tmp_path), update_seconds=5.0, max_samples=MAX_SAMPLES)
    means = [corpus.utterances.seconds() / len(corpus.utterances) for corpus in rounds.dataset.corpora]
    for count, mean, size in zip(rounds.per_update, means, SIZES.values(), strict=True):
        assert count == min(size, round(5.0 / mean))
    assert rounds.per_update[2] == 3  # all that it has
    assert Rounds(dataset(tmp_path), 0.01, MAX_SAMPLES).per_update == [1, 1, 1]
    assert Rounds(dataset(tmp_path), 1e9, MAX_SAMPLES).per_update == list(SIZES.values())


def test_updates_repeat_none_before_all_were_seen(tmp_path: Path) -> None:
    rounds = Rounds(dataset(tmp_path), update_seconds=5.0, max_samples=MAX_SAMPLES)
    drawn = [index for update in range(20) for index in rounds.language_batch(0, update).tolist()]
    for start in range(0, len(drawn) - 37, 37):
        assert sorted(drawn[start : start + 37]) == list(range(37))


def round_iterator(folder: Path, num_shards: int = 1, shard: int = 0) -> RoundIterator:
    data = dataset(folder)
    data.collater = list  # type: ignore[method-assign, assignment]
    data.__class__ = type("Indices", (MixtureDataset,), {"__getitem__": lambda self, index: int(index)})
    return RoundIterator(Rounds(data, 5.0, 40_000), 6, num_shards=num_shards, shard_id=shard)


def rounds_left(iterator: RoundIterator) -> list[list[list[int]]]:
    return [list(one) for one in iterator.next_epoch_itr()]  # type: ignore[arg-type]


def test_state_of_rounds_goes_round(tmp_path: Path) -> None:
    whole = rounds_left(round_iterator(tmp_path))
    assert len(whole) == 6 and all(len(one) > 1 for one in whole)
    started = round_iterator(tmp_path)
    assert started.state_dict()["iterations_in_epoch"] == 0 and len(started) == 6
    running = started.next_epoch_itr()
    for _ in range(2):
        list(next(running))
    state = started.state_dict()
    assert state["iterations_in_epoch"] == started.iterations_in_epoch == 2 and not started.end_of_epoch()
    resumed = round_iterator(tmp_path)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert rounds_left(resumed) == whole[2:] and resumed.end_of_epoch()
    assert resumed.state_dict()["iterations_in_epoch"] == 6


def test_ranks_share_each_round(tmp_path: Path) -> None:
    whole = rounds_left(round_iterator(tmp_path))
    shares = [rounds_left(round_iterator(tmp_path, 3, rank)) for rank in range(3)]
    for number, one in enumerate(whole):
        assert sorted(batch for share in shares for batch in share[number]) == sorted(one)


def test_a_rank_without_a_share_still_joins_the_update(tmp_path: Path) -> None:
    last = round_iterator(tmp_path, 50, 49).next_epoch_itr()
    first = next(last)
    assert list(first) == [] and len(first) > 0  # fairseq takes an empty sample for a dummy


# ---- batches


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> MixtureDataset:
    """Two languages with audio and letters."""
    folder = tones.write_corpus(tmp_path_factory.mktemp("tones"), ["eng", "rus"], train=3, dev=2)
    letters = {"eng": dictionary("|abcdef"), "rus": dictionary("|абвгде")}
    corpora = [mixture.read_corpus(folder, lang, "train", letters[lang]) for lang in letters]
    return MixtureDataset(corpora, weights=[0.5, 0.5], seed=1, normalize=True)


def test_collater_pads_audio_and_letters(spoken: MixtureDataset) -> None:
    chosen = [0, 4, 2]
    items = [spoken[index] for index in chosen]
    batch = spoken.collater(items)
    samples, letters = [spoken.size(index) for index in chosen], [len(item["target"]) for item in items]
    assert batch["net_input"]["source"].shape == batch["net_input"]["padding_mask"].shape == (3, max(samples))
    assert (~batch["net_input"]["padding_mask"]).sum(1).tolist() == samples
    assert batch["target"].shape == (3, max(letters)) and batch["target_lengths"].tolist() == letters
    assert (batch["id"].tolist(), batch["langs"].tolist(), batch["ntokens"]) == (chosen, [0, 1, 0], sum(letters))
    for row, item in enumerate(items):
        assert torch.equal(batch["net_input"]["source"][row, : samples[row]], item["source"])
        assert not batch["net_input"]["source"][row, samples[row] :].any()
        assert torch.equal(batch["target"][row, : letters[row]], item["target"])
        assert item["source"].mean().abs() < 1e-4 and item["source"].std() == pytest.approx(1, abs=1e-3)
        lang, place = spoken.locate(chosen[row])
        symbols = spoken.corpora[lang].dictionary.symbols  # type: ignore[union-attr]
        written = spoken.corpora[lang].units[place]  # type: ignore[index]
        assert " ".join(symbols[letter] for letter in item["target"].tolist()) == written
    assert spoken.collater([]) == {}  # a rank whose share ran out


def test_pretraining_batches_are_cropped_and_unpadded(spoken: MixtureDataset) -> None:
    unlabelled = [Corpus(corpus.lang, corpus.utterances) for corpus in spoken.corpora]
    for limit, expected in ((5_000, 5_000), (10**6, min(spoken.size(index) for index in (0, 1, 3)))):
        data = MixtureDataset(unlabelled, weights=[0.5, 0.5], seed=1, normalize=True, max_samples=limit)
        items = [data[index] for index in (0, 1, 3)]
        batch = data.collater(items)
        assert batch["net_input"]["source"].shape == (3, expected) and batch["net_input"]["padding_mask"] is None
        for row, item in enumerate(items):  # a piece of that utterance
            windows = item["source"].unfold(0, expected, 1)
            assert (windows == batch["net_input"]["source"][row]).all(1).any()
        assert torch.equal(data.collater(items)["net_input"]["source"], batch["net_input"]["source"])
    data = MixtureDataset(unlabelled, weights=[0.5, 0.5], seed=1, normalize=True, max_samples=5_000)
    first = data.collater([data[0]])["net_input"]["source"]
    data.set_epoch(2)
    assert not torch.equal(data.collater([data[0]])["net_input"]["source"], first)


def test_pretraining_batches_count_what_is_cropped(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    data.max_samples = 8_000  # every utterance is longer
    assert {len(batch) for batch in data.batches(1, 64_000)} == {8, 3}  # 51 = 6 * 8 + 3
