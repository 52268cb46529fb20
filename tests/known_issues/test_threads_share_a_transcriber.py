"""A server with many threads and one Transcriber: each answer is the one that a single thread gets.

Calls from 4 threads used to fail, and to leave the Transcriber broken for good: a language stood in its list before its
adapter did.
"""

import multiprocessing
import pickle
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch

from mms_recipes import adapter_files, sources
from mms_recipes.lid import answers, file_languages
from mms_recipes.lid.file_languages import Options
from mms_recipes.lid.identifier import load_identifier
from mms_recipes.models.adapters import CTC_HEAD
from mms_recipes.recognizer import Heads
from mms_recipes.transcriber import Transcriber
from mms_recipes.transcription.routing import NEAREST, Routes
from mms_recipes.transcription.transcripts import Transcript
from tests.fairseq.test_decoding import write_arpa
from tests.known_issues.lab import Lab

LANGS = ("eng", "fra", "deu", "ita", "spa", "pol", "tur", "swh")
THREADS = 16
SOME_AND_ALL = [4, pytest.param(THREADS, marks=pytest.mark.slow)]

T = TypeVar("T")


@pytest.fixture(scope="module")
def adapters(tiny: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight languages whose heads are random, and sure of what they write."""
    folder = tmp_path_factory.mktemp("threads") / "adapters"
    english = adapter_files.read_adapter(tiny.adapters / "eng.safetensors")
    for number, lang in enumerate(LANGS):
        generator = torch.Generator().manual_seed(number)
        weight = 8 * torch.randn(english.tensors[CTC_HEAD + "weight"].shape, generator=generator)
        tensors = english.tensors | {CTC_HEAD + "weight": weight}
        adapter_files.write_adapter(folder, replace(english, lang=lang, tensors=tensors))
    return folder


def together(work: Callable[[int], T], count: int = THREADS) -> list[T]:
    """What each of many threads returns that begin at the same time."""
    barrier = threading.Barrier(count)

    def begin(number: int) -> T:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def alone(model: Transcriber, path: Path) -> dict[str, list[Transcript]]:
    found = {lang: model.transcribe([path], lang) for lang in LANGS}
    assert len({one.text for (one,) in found.values()}) > len(LANGS) // 2  # the languages differ
    return found


@pytest.mark.parametrize("threads", SOME_AND_ALL)
def test_threads_that_add_languages_get_what_one_thread_gets(tiny: Lab, adapters: Path, threads: int) -> None:
    expected = alone(Transcriber(adapters), tiny.wav)
    model = Transcriber(adapters)
    for first in range(threads // 4):
        model.recognizer.heads = Heads()  # as it was when it was opened

        def calls(number: int, first: int = first) -> list[list[Transcript]]:
            order = [LANGS[(first + number + step) % len(LANGS)] for step in range(len(LANGS))]
            return [model.transcribe([tiny.wav], lang) for lang in order] + [model.transcribe([tiny.wav] * 8, LANGS)]

        for number, found in enumerate(together(calls, threads)):
            wanted = [expected[LANGS[(first + number + step) % len(LANGS)]] for step in range(len(LANGS))]
            assert found[:-1] == wanted
            assert [one.text for one in found[-1]] == [expected[lang][0].text for lang in LANGS]
        assert sorted(model.recognizer.dictionaries) == sorted(LANGS)  # none was lost


def test_a_language_without_an_adapter_changes_nothing_for_the_others(tiny: Lab, adapters: Path) -> None:
    model = Transcriber(adapters)
    expected = alone(Transcriber(adapters), tiny.wav)

    def calls(number: int) -> Any:
        if number % 2:
            with pytest.raises(ValueError, match="no adapter for kor"):
                model.transcribe([tiny.wav] * 2, [LANGS[number % 8], "kor"])
            return None
        return model.transcribe([tiny.wav], LANGS[number % 8])

    for number, found in enumerate(together(calls)):
        assert found is None or found == expected[LANGS[number % 8]]


def test_a_broken_adapter_leaves_the_transcriber_as_it_was(tiny: Lab, adapters: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(adapters, folder)
    whole = (folder / "fra.safetensors").read_bytes()
    (folder / "fra.safetensors").write_bytes(whole[: len(whole) // 2])
    model = Transcriber(folder)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"fra\.safetensors"):
            model.transcribe([tiny.wav] * 2, ["eng", "fra"])
        assert not model.recognizer.dictionaries and model.recognizer.adapters is None
    eng = model.transcribe([tiny.wav], "eng")
    (folder / "fra.safetensors").write_bytes(whole)
    assert model.transcribe([tiny.wav], "fra") == Transcriber(folder).transcribe([tiny.wav], "fra")
    assert model.transcribe([tiny.wav], "eng") == eng


@pytest.mark.parametrize("threads", SOME_AND_ALL)
def test_threads_that_identify_languages(tiny: Lab, adapters: Path, threads: int) -> None:
    wavs = sorted((tiny.data / "eng/audio").glob("test_*.wav")) + sorted((tiny.data / "jpn/audio").glob("test_*.wav"))
    identifier = load_identifier(tiny.lid, torch.device("cpu"))
    choice = answers.open_choice(identifier, tiny.lid)
    model = Transcriber(adapters, lid=tiny.lid, routes=Routes(fallback=NEAREST))

    def identified(number: int) -> list[Any]:
        return list(file_languages.identify(identifier, choice, wavs, Options()))

    def transcribed(number: int) -> list[Transcript]:
        return model.transcribe(wavs, sources.AUTO)

    languages = together(identified, threads)
    assert languages == [identified(0)] * threads
    expected = Transcriber(adapters, lid=tiny.lid, routes=Routes(fallback=NEAREST)).transcribe(wavs, sources.AUTO)
    assert together(transcribed, threads) == [expected] * threads


def test_threads_that_search_with_a_language_model(tiny: Lab, adapters: Path, tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text", reason="flashlight-text is not installed: this test did NOT run")
    for lang in LANGS[:4]:
        write_arpa(tmp_path / lang / "lm.bin", [["a", "b", "|", "c"], ["d", "e", "f", "|", "a"]])
    wavs = sorted((tiny.data / "eng/audio").glob("*.wav"))[:4]
    model = Transcriber(adapters, lm=tmp_path)

    def calls(number: int) -> list[Transcript]:
        return model.transcribe(wavs, [LANGS[(number + step) % 4] for step in range(4)])

    expected = [calls(number) for number in range(4)]
    model.recognizer.heads = Heads()
    assert together(calls, 4) == expected


def _in_a_process(model: Transcriber, paths: Sequence[Path], lang: str) -> list[Transcript]:
    return model.transcribe(paths, lang)


def test_it_pickles_and_the_copy_is_its_equal(tiny: Lab, adapters: Path, tmp_path: Path) -> None:
    model = Transcriber(adapters, lid=tiny.lid)
    expected = alone(model, tiny.wav)
    copy = pickle.loads(pickle.dumps(model))
    assert {lang: copy.transcribe([tiny.wav], lang) for lang in LANGS} == expected
    threads = torch.get_num_threads()  # sums may differ with the number of threads
    with multiprocessing.get_context("spawn").Pool(1, torch.set_num_threads, (threads,)) as pool:
        assert pool.apply(_in_a_process, (model, [tiny.wav], "fra")) == expected["fra"]
    dense = Transcriber(tiny.dense)
    assert pickle.loads(pickle.dumps(dense)).transcribe([tiny.wav], "eng") == dense.transcribe([tiny.wav], "eng")


def test_a_pickled_one_is_not_opened_on_another_base(tiny: Lab, adapters: Path, tmp_path: Path) -> None:
    shutil.copy(tiny.dense, tmp_path / "base.pt")
    pickled = pickle.dumps(Transcriber(tmp_path / "base.pt"))
    shutil.copy(tiny.pretrained, tmp_path / "base.pt")
    with pytest.raises(ValueError, match=r"base\.pt"):
        pickle.loads(pickled)


def test_one_path_is_a_list_of_one(tiny: Lab) -> None:
    """It was taken for a list of its letters."""
    model = Transcriber(tiny.adapters)
    assert (
        model.transcribe(str(tiny.wav), "eng")
        == model.transcribe(tiny.wav, "eng")
        == model.transcribe([tiny.wav], "eng")
    )
