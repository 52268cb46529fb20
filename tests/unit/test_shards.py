"""Audio in tar and zip shards: packed whole and always alike, read where it lies, and every mismatch told."""

import concurrent.futures
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import build_units
import numpy as np
import pack_shards
import prepare_fleurs
import pytest
import soundfile
import torch

from mms_recipes import audio_files, manifest
from mms_recipes.corpora import validation
from mms_recipes.data.audio import read_utterance
from mms_recipes.files import write_text
from mms_recipes.manifest import Utterance
from mms_recipes.unit_kinds import UnitKind
from tests.unit import disks

SECOND = 16_000
SPLITS = {"train": 5, "dev": 2, "test": 1}


@pytest.fixture(autouse=True)
def no_open_shards() -> Iterator[None]:
    audio_files.close_shards()
    yield
    audio_files.close_shards()


def samples_of(number: int, num_samples: int) -> np.ndarray:
    """Noise, which FLAC cannot shrink much, so that every utterance has bytes of its own."""
    return np.random.default_rng(number).normal(scale=0.1, size=num_samples).astype(np.float32)


def labels_of(number: int) -> tuple[str, str]:
    """Letters and word of an utterance, another word for each number."""
    word = f"{number:05b}".translate({ord("0"): "a", ord("1"): "b"})
    return " ".join(word) + " |", word


def build(folder: Path, langs: tuple[str, ...] = ("eng",), suffix: str = "wav") -> Path:
    """Write a corpus as the prepare tools do; the lengths differ by a sample each."""
    for lang in langs:
        number = len(lang)
        for split, size in SPLITS.items():
            rows = []
            for place in range(size):
                number += 1
                name, num_samples = f"audio/{split}/{place}é.{suffix}", SECOND + 100 * number
                (folder / lang / name).parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(folder / lang / name, samples_of(number, num_samples), SECOND)
                rows.append(Utterance(name, num_samples, *labels_of(number), f"{lang}_{split}_{split}{place}é"))
            manifest.write_split(folder / lang, split, folder / lang, rows)
        manifest.write_dictionary(folder / lang / "dict.ltr.txt", {"a": 5, "b": 5, "|": 5})
    manifest.write_dictionary(folder / "dict.ltr.txt", {"a": 5, "b": 5, "|": 5})
    write_text(folder / manifest.PREPARED, '{"normalization": ["mms-1"]}\n')
    return folder


def pack(*arguments: object) -> int:
    return pack_shards.main([str(argument) for argument in arguments])


def read_all(corpus: Path, lang: str = "eng") -> dict[str, list[torch.Tensor]]:
    tables = {split: manifest.read_manifest(corpus / lang / f"{split}.tsv") for split in SPLITS}
    return {
        split: [read_utterance(table.path(row), int(table.num_samples[row]), False) for row in range(len(table))]
        for split, table in tables.items()
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- packing


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("keep", [[], ["--keep"]])
def test_a_packed_corpus_is_the_corpus(tmp_path: Path, form: str, keep: list[str]) -> None:
    src, out = build(tmp_path / "src", ("eng", "fra")), tmp_path / "out"
    assert pack(src, out, "--format", form, *keep) == 0
    before = {lang: read_all(src, lang) for lang in ("eng", "fra")}
    report = validation.validate(src)
    shutil.rmtree(src)
    packed = validation.validate(out)
    assert packed.problems() == packed.notes() == []
    assert packed.amounts == report.amounts
    for lang in ("eng", "fra"):
        after = read_all(out, lang)
        for split, sources in before[lang].items():
            assert all(torch.equal(*pair) for pair in zip(sources, after[split], strict=True))
    member = audio_files.find_member(manifest.read_manifest(out / "eng" / "train.tsv").path(0))
    assert member is not None and member.shard == out.resolve() / "eng" / "shards" / f"train-00000.{form}"
    stored = soundfile.info(io.BytesIO(audio_files.read_bytes(Path(f"{member.shard}:{member.offset}:{member.size}"))))
    assert stored.format == ("WAV" if keep else "FLAC")
    assert not list(out.rglob("*.wav")) and not list(out.rglob("*.flac"))


def test_labels_and_dictionaries_are_copied_as_they_are(tmp_path: Path) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    (src / "eng" / "train.wrd").write_bytes(b"a\r\nb\nc\nd\ne\n")  # not a line feed is changed
    assert pack(src, out) == 0
    for name in [f"eng/{s}.{kind}" for s in SPLITS for kind in manifest.LABEL_SUFFIXES]:
        assert (out / name).read_bytes() == (src / name).read_bytes()
    for name in ("dict.ltr.txt", "eng/dict.ltr.txt", "prepared.json"):
        assert (out / name).read_bytes() == (src / name).read_bytes()


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_the_archives_are_ordinary_and_the_manifest_points_at_their_members(tmp_path: Path, form: str) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out, "--format", form) == 0
    rows = list(manifest.read_manifest(out / "eng" / "train.tsv").names())
    path = out / "eng" / "shards" / f"train-00000.{form}"
    uids = list(manifest.read_lines(out / "eng" / "train.uid"))
    if form == "tar":
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            assert rows == [f"shards/{path.name}:{m.offset_data}:{m.size}" for m in members]
            assert {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in members} == {(0, 0, 0, "", 0o644)}
            assert [m.name for m in members] == [f"{uid}.flac" for uid in uids]
    else:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == [f"{uid}.flac" for uid in uids]
            stored = [archive.read(name) for name in archive.namelist()]
        assert stored == [audio_files.read_bytes(out / "eng" / row) for row in rows]


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    src = build(tmp_path / "src")
    assert pack(src, tmp_path / "one", "--format", form, "--relative-root", "--jobs", 1) == 0
    for path in src.rglob("*.wav"):
        os.utime(path, (1, 1))
    assert pack(src, tmp_path / "two", "--format", form, "--relative-root", "--jobs", 4) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    (tmp_path / "two").rename(tmp_path / "moved")
    assert validation.validate(tmp_path / "moved").problems() == []


def long_corpus(folder: Path, seconds: int = 20) -> Path:
    """Five train utterances, of 0.64 MB each as wav of 20 s."""
    src = build(folder)
    rows = []
    for place in range(5):
        soundfile.write(src / "eng" / f"{place}.wav", samples_of(place, seconds * SECOND), SECOND)
        rows.append(Utterance(f"{place}.wav", seconds * SECOND, *labels_of(place), f"eng_train_{place}"))
    manifest.write_split(src / "eng", "train", src / "eng", rows)
    return src


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_shards_are_cut_by_size_and_keep_the_order(tmp_path: Path, form: str) -> None:
    src, out = long_corpus(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out, "--keep", "--shard-mb", 2, "--format", form) == 0
    shards = sorted((out / "eng" / "shards").glob("train-*"))
    assert [path.name for path in shards] == [f"train-0000{n}.{form}" for n in range(2)]
    assert all(path.stat().st_size < 2_020_000 for path in shards)
    names = list(manifest.read_manifest(out / "eng" / "train.tsv").names())
    assert [name.split(":")[0] for name in names] == [f"shards/train-0000{n}.{form}" for n in (0, 0, 0, 1, 1)]
    before, after = read_all(src)["train"], read_all(out)["train"]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    long_corpus(src, seconds=60)  # each larger than a shard is asked to be: still one in each
    assert pack(src, out, "--keep", "--shard-mb", 1, "--format", form) == 0
    assert len(list((out / "eng" / "shards").glob("train-*"))) == 5


def test_what_is_finished_is_skipped_and_what_changed_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    shards = out / "eng" / "shards"

    def packed() -> list[str]:
        """Pack again; return the splits that were not finished."""
        capsys.readouterr()
        assert pack(src, out) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split()[1].rstrip(":") for line in lines if "finished before" not in line]

    assert packed() == ["train", "dev", "test"]
    times = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert packed() == []
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == times
    (shards / "dev-00000.tar").unlink()
    assert packed() == ["dev"]
    (shards / "test-00000.tar").write_bytes(b"short")
    assert packed() == ["test"]
    for suffix, old, new in zip(("ltr", "wrd"), labels_of(4), labels_of(31), strict=True):
        path = src / "eng" / f"train.{suffix}"
        path.write_text(path.read_text().replace(f"{old}\n", f"{new}\n"))
        assert packed() == ["train"]
    assert pack(src, out, "--format", "zip") == 0
    assert {path.suffix for path in shards.iterdir()} == {".zip"}  # no shard is left that no manifest names
    assert validation.validate(out).problems() == []


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_run_that_stops_leaves_no_half_split(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    broken = src / "eng" / "audio" / "dev" / "1é.wav"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:20_044])
    assert pack(src, out, "--format", form) == 1
    told = capsys.readouterr().err
    assert f"{src}/eng/dev.tsv:3: {broken.resolve()}: 10000 samples, but the manifest says" in told
    assert "mend the corpus first, tools/validate_manifests.py tells" in told
    assert (out / "eng" / "train.tsv").exists() and not (out / "eng" / "dev.tsv").exists()
    assert [path.name for path in (out / "eng" / "shards").iterdir()] == [f"train-00000.{form}"]
    (out / "eng" / "shards" / f".dev-00000.{form}.1.tmp").touch()  # of a run that was killed
    broken.write_bytes(whole)
    assert pack(src, out, "--format", form) == 0
    assert "eng train: finished before" in capsys.readouterr().out
    assert validation.validate(out).problems() == []
    assert not list(out.rglob("*.tmp"))


def test_shards_can_be_packed_again_into_others(tmp_path: Path) -> None:
    src = build(tmp_path / "src")
    before = read_all(src)
    assert pack(src, tmp_path / "zips", "--format", "zip") == 0
    assert pack(tmp_path / "zips", tmp_path / "tars") == 0
    shutil.rmtree(tmp_path / "zips")
    after = read_all(tmp_path / "tars")
    assert all(torch.equal(*pair) for split in SPLITS for pair in zip(before[split], after[split], strict=True))


def test_audio_without_labels_is_packed_by_row(tmp_path: Path) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    for path in src.rglob("*.*"):
        if path.suffix in (".ltr", ".wrd", ".uid"):
            path.unlink()
    assert pack(src, out) == 0
    assert validation.validate(out, labelled=False).problems() == []
    with tarfile.open(out / "eng" / "shards" / "train-00000.tar") as tar:
        assert tar.getnames() == [f"{row:08}.flac" for row in range(5)]


@pytest.mark.parametrize(
    ("subtype", "suffix", "stored"),
    [("PCM_24", "wav", "FLAC"), ("FLOAT", "wav", "WAV"), ("PCM_16", "flac", "FLAC"), ("VORBIS", "ogg", "OGG")],
)
def test_only_wav_that_flac_can_keep_is_changed(tmp_path: Path, subtype: str, suffix: str, stored: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, samples_of(1, SECOND), SECOND, subtype=subtype)
    kind, packed = pack_shards.encode(path.read_bytes(), keep=False)
    assert (kind, soundfile.info(io.BytesIO(packed)).format) == (stored.lower(), stored)
    assert (packed == path.read_bytes()) == (suffix.upper() == stored)
    assert np.array_equal(soundfile.read(path)[0], soundfile.read(io.BytesIO(packed))[0])


def test_the_command_says_what_it_cannot_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    src = build(tmp_path / "src", ("eng", "fra"))
    for arguments, told in [
        ((src, src), "OUT is SRC; name another folder"),
        ((src, tmp_path / "out", "--langs", "eng,deu"), f"{src}: no manifests of deu; it has eng, fra"),
        ((src, tmp_path / "out", "--langs", "english"), "unknown language or set 'english'"),
        ((tmp_path / "nowhere", tmp_path / "out"), "nowhere: no manifests, expected"),
    ]:
        assert pack(*arguments) == 1
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit):
        pack(src, tmp_path / "out", "--shard-mb", 0)
    assert "0, expected 1 or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert pack(src, tmp_path / "out", "--langs", "fra") == 0
    assert validation.find_languages(tmp_path / "out") == ["fra"]
    assert (tmp_path / "out" / "dict.ltr.txt").read_text() == (src / "dict.ltr.txt").read_text()


def test_real_speech_is_packed_and_read(shared_speech: Path, tmp_path: Path) -> None:
    prepared, out = tmp_path / "prepared", tmp_path / "out"
    assert prepare_fleurs.main([str(shared_speech), str(prepared), "--langs", "ita", "--splits", "dev"]) == 0
    assert pack(prepared, out) == 0
    assert validation.validate(out, splits=["dev"], dictionary=None).counts.keys() <= {"no dictionary"}
    tables = [manifest.read_manifest(folder / "ita" / "dev.tsv") for folder in (prepared, out)]
    assert len(tables[0]) == len(tables[1]) > 10
    for row in range(len(tables[0])):
        before, after = (read_utterance(table.path(row), int(table.num_samples[row]), True) for table in tables)
        assert torch.equal(before, after)


# ---- reading


@pytest.mark.parametrize("form", ["tar", "zip"])
@pytest.mark.parametrize("keep", [[], ["--keep"]])
def test_stock_fairseq_reads_the_same_manifest(tmp_path: Path, form: str, keep: list[str]) -> None:
    from fairseq.data.audio.raw_audio_dataset import FileAudioDataset

    src, out = build(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out, "--format", form, *keep) == 0
    stock = FileAudioDataset(str(out / "eng" / "train.tsv"), sample_rate=SECOND)
    for row, source in enumerate(read_all(src)["train"]):
        assert torch.equal(stock[row]["source"], source)


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_training_gets_the_same_batches_from_shards(tmp_path: Path, form: str) -> None:
    import mms_recipes.plugins  # noqa: F401

    # isort: split
    from mms_recipes.tasks.finetuning import FinetuningConfig, FinetuningTask

    src, out = build(tmp_path / "src", ("eng", "fra")), tmp_path / "out"
    assert pack(src, out, "--format", form) == 0
    batches = []
    for corpus in (src, out):
        task = FinetuningTask(FinetuningConfig(data=str(corpus), seed=1))
        task.load_dataset("train")
        iterator = task.get_batch_iterator(task.datasets["train"], max_tokens=3 * SECOND)
        batches.append(list(iterator.next_epoch_itr(shuffle=True)))
    assert len(batches[0]) == len(batches[1]) > 3
    for files, shards in zip(*batches, strict=True):
        assert torch.equal(files["id"], shards["id"]) and torch.equal(files["target"], shards["target"])
        assert torch.equal(files["net_input"]["source"], shards["net_input"]["source"])


@pytest.mark.parametrize(
    ("path", "member"),
    [
        ("/a/b.tar:512:7", audio_files.Member(Path("/a/b.tar"), 512, 7)),
        ("b.zip:0:0", audio_files.Member(Path("b.zip"), 0, 0)),
        ("/a:b/c d.tar:1:2/e.zip:3:4", audio_files.Member(Path("/a:b/c d.tar:1:2/e.zip"), 3, 4)),
        ("/a/b.wav", None),
        ("/a/b.tar", None),
        ("/a/b.tar:512", None),
        ("/a/b.tar:512:7:8", None),
        ("/a/b.tar:-1:7", None),
        ("/a/b.tar:٣:7", None),
        ("/a/b.tgz:512:7", None),
        ("/a/b.tar:512:7.wav", None),
        ("/a/tar:512:7", None),
    ],
)
def test_the_form_of_a_path_tells_a_place_in_a_shard(path: str, member: audio_files.Member | None) -> None:
    assert audio_files.find_member(Path(path)) == member
    assert audio_files.is_in_shard(path) == (member is not None)


@pytest.mark.parametrize("name", ["12:30:45.wav", "a.tar:1:2.wav", "a.tar:1:2", "b.zip:0:9"])
def test_files_with_colons_in_their_names_are_files(tmp_path: Path, name: str) -> None:
    source = samples_of(1, SECOND)
    soundfile.write(tmp_path / name, source, SECOND, format="WAV", subtype="FLOAT")
    assert audio_files.probe(tmp_path / name, SECOND) is None
    assert np.array_equal(read_utterance(tmp_path / name, SECOND, False), source)
    assert audio_files.read_bytes(tmp_path / name) == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a.wav", "d/" * 60 + "long.wav", "ünï.wav"])
def test_tars_of_all_dialects_are_understood(tmp_path: Path, form: int, name: str) -> None:
    soundfile.write(tmp_path / "a.wav", samples_of(1, SECOND), SECOND)
    with tarfile.open(tmp_path / "s.tar", "w", format=form) as tar:
        tar.add(tmp_path / "a.wav", "first.wav")
        tar.add(tmp_path / "a.wav", name)
    with tarfile.open(tmp_path / "s.tar") as tar:
        member = tar.getmembers()[1]
    path = tmp_path / f"s.tar:{member.offset_data}:{member.size}"
    assert audio_files.probe(path, SECOND) is None
    assert audio_files.probe(path.with_name(f"s.tar:{member.offset_data}:{member.size - 2}"), SECOND) is not None


@pytest.mark.parametrize("streamed", [False, True])
def test_zips_written_as_a_stream_or_with_extra_fields_are_understood(tmp_path: Path, streamed: bool) -> None:
    class Stream(io.BytesIO):
        def seek(self, *place: int) -> int:
            if streamed:
                raise OSError("a pipe cannot seek")
            return super().seek(*place)

    buffer = Stream()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("first.wav", "PK\3\4.wav"):  # a name that looks like a header's begin
            info = zipfile.ZipInfo(name)
            info.extra = b"PK\4\0abcd"
            soundfile.write(sound := io.BytesIO(), samples_of(1, SECOND), SECOND, format="WAV")
            archive.writestr(info, sound.getvalue())
        header = archive.infolist()[1]
    offset = header.header_offset + 30 + len("PK\3\4.wav") + len(b"PK\4\0abcd")
    path = tmp_path / f"s.zip:{offset}:{header.file_size}"
    (tmp_path / "s.zip").write_bytes(buffer.getvalue())
    assert audio_files.probe(path, SECOND) is None
    assert len(read_utterance(path, SECOND, True)) == SECOND


def test_threads_read_the_right_bytes_from_more_shards_than_stay_open(tmp_path: Path) -> None:
    """A shard that is closed while another thread reads from it must not give that thread another file's bytes."""
    shards = 3 * audio_files.OPEN_SHARDS
    for number in range(shards):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]) * 4096)
    open_before, most, done = descriptors(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, descriptors())

    def check(number: int) -> bool:
        return audio_files.read_bytes(tmp_path / f"{number}.tar:100:3000") == bytes([number]) * 3000

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, np.random.default_rng(0).integers(0, shards, 4000).tolist()))
    done.set()
    watcher.join()
    if sys.platform == "linux":
        assert audio_files.OPEN_SHARDS <= most - open_before <= audio_files.OPEN_SHARDS + 8 + 2
        audio_files.close_shards()
        assert descriptors() <= open_before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


class Rows(torch.utils.data.Dataset):
    """The utterances of a manifest many times over, for worker processes."""

    def __init__(self, tsv: Path) -> None:
        self.table = manifest.read_manifest(tsv)

    def __len__(self) -> int:
        return 20 * len(self.table)

    def __getitem__(self, index: int) -> torch.Tensor:
        row = index % len(self.table)
        return read_utterance(self.table.path(row), int(self.table.num_samples[row]), False)


def test_worker_processes_share_the_shards_that_were_open_before_they_were_forked(tmp_path: Path) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out) == 0
    expected = read_all(src)["train"]
    rows = Rows(out / "eng" / "train.tsv")
    assert torch.equal(rows[0], expected[0])  # opens the shard here
    loader = torch.utils.data.DataLoader(rows, batch_size=None, num_workers=2, multiprocessing_context="fork")
    count = 0
    for index, source in enumerate(loader):
        assert torch.equal(source, expected[index % len(expected)])
        count += 1
    assert count == 20 * len(expected)


# ---- what can be wrong


def replace(out: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the train shard; the new one takes the place of the old, as a copy from elsewhere would."""
    (path,) = (out / "eng" / "shards").glob("train-*")
    new = path.with_suffix(".new")
    new.write_bytes(change(path.read_bytes()))
    os.replace(new, path)


def rebuild(out: Path, order: Callable[[list[Any]], list[Any]]) -> None:
    """Write the tar of train anew with its members in another order, but not its index."""

    def change(old: bytes) -> bytes:
        new = io.BytesIO()
        with tarfile.open(fileobj=io.BytesIO(old)) as source, tarfile.open(fileobj=new, mode="w") as target:
            for member in order(source.getmembers()):
                target.addfile(member, source.extractfile(member))
        return new.getvalue()

    replace(out, change)


def row(out: Path, new: Callable[[int, int], tuple[int, int]]) -> None:
    """Change offset and size in the second row of train."""
    lines = (out / "eng" / "train.tsv").read_text().splitlines()
    name, _, num_samples = lines[2].partition("\t")
    shard, offset, size = name.rsplit(":", 2)
    place = "{}:{}".format(*new(int(offset), int(size)))
    lines[2] = f"{shard}:{place}\t{num_samples}"
    (out / "eng" / "train.tsv").write_text("".join(f"{line}\n" for line in lines))


def blank(out: Path) -> None:
    """Zero the second member and its header, as a damaged disk does."""
    member = audio_files.find_member(manifest.read_manifest(out / "eng" / "train.tsv").path(1))
    assert member
    begin, end = member.offset - 512, member.offset + member.size
    replace(out, lambda old: old[:begin] + bytes(end - begin) + old[end:])


def spoil_audio(out: Path) -> None:
    """Leave the header and change what it stands before."""
    member = audio_files.find_member(manifest.read_manifest(out / "eng" / "train.tsv").path(1))
    assert member
    begin, end = member.offset, member.offset + member.size
    replace(out, lambda old: old[:begin] + b"?" * (end - begin) + old[end:])


def put(out: Path, form: str, audio: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """Let the second row of train name a shard of its own that holds this audio."""
    shard, offset, size = out / "eng" / f"own.{form}", 512, len(audio)
    if form == "tar":
        with tarfile.open(shard, "w") as tar:
            member = tarfile.TarInfo("a.wav")
            member.size = size
            tar.addfile(member, io.BytesIO(audio))
    else:
        with zipfile.ZipFile(shard, "w", compression) as archive:
            archive.writestr("a.wav", audio)
            offset, size = 30 + len("a.wav"), archive.infolist()[0].compress_size
    lines = (out / "eng" / "train.tsv").read_text().splitlines()
    lines[2] = f"own.{form}:{offset}:{size}\t{lines[2].partition(chr(9))[2]}"
    (out / "eng" / "train.tsv").write_text("".join(f"{line}\n" for line in lines))


def sound(rate: int = SECOND, num_samples: int = SECOND + 500, channels: int = 1) -> bytes:
    soundfile.write(file := io.BytesIO(), np.zeros((num_samples, channels)), rate, format="WAV")
    return file.getvalue()


AGAIN = "pack again with tools/pack_shards.py"
# how, the kind of problem and what validation says of row 2, what training says when it comes to it
FAULTS: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "no shard": (
        lambda out: (out / "eng" / "shards" / "train-00000.tar").unlink(),
        "missing audio",
        "no shard {shard}; restore the file",
        "{shard}: no such shard; restore it, or " + AGAIN,
    ),
    "behind the end": (
        lambda out: row(out, lambda offset, size: (10**9, size)),
        "not in its shard",
        "expected bytes 1000000000 to ",
        " bytes, expected an utterance at bytes 1000000000 to ",
    ),
    "larger than the shard": (
        lambda out: row(out, lambda offset, size: (offset, 10**17)),
        "not in its shard",
        "to 100000000000",
        "the shard was cut or replaced: restore it, or " + AGAIN,
    ),
    "cut": (
        lambda out: replace(out, lambda old: old[:40_000]),
        "not in its shard",
        "but the shard has 40000 bytes; the shard was cut or replaced since its index was written: restore it, or ",
        "{shard}: 40000 bytes, expected an utterance at bytes ",
    ),
    "rebuilt in another order": (
        lambda out: rebuild(out, lambda members: [members[1], members[0], *members[2:]]),
        "not in its shard",
        "; the shard was cut or replaced since its index was written: restore it, or " + AGAIN,
        "; " + AGAIN,
    ),
    "rebuilt without the first": (
        lambda out: rebuild(out, lambda members: members[1:]),
        "not in its shard",
        "; the shard was cut or replaced since its index was written: restore it, or " + AGAIN,
        "; " + AGAIN,
    ),
    "points at another member": (
        lambda out: row(out, lambda offset, size: (512 if offset > 2000 else offset, size)),
        "not in its shard",
        "expected ",
        "; ",
    ),
    "another size": (
        lambda out: row(out, lambda offset, size: (offset, size - 9_000)),
        "not in its shard",
        "the header before it is that of 'eng_train_train1?.flac' of ",
        "the header before it is that of 'eng_train_train1?.flac' of ",
    ),
    "at the begin": (
        lambda out: row(out, lambda offset, size: (0, size)),
        "not in its shard",
        "bytes before it, found none (empty header); ",
        "not readable as audio (",
    ),
    "damaged": (
        blank,
        "not in its shard",
        "bytes before it, found none (end of file header)",
        "not readable as audio (",
    ),
    "not audio": (
        spoil_audio,
        "unreadable audio",
        "not readable as audio (Format not recognised.); restore the file",
        "not readable as audio (Format not recognised.); restore the shard, or " + AGAIN,
    ),
    "compressed zip": (
        lambda out: put(out, "zip", sound(), zipfile.ZIP_DEFLATED),
        "compressed in its shard",
        "method 8, expected 0, stored as it is; " + AGAIN,
        "method 8, expected 0, stored as it is; " + AGAIN,
    ),
    "8 kHz in a tar": (
        lambda out: put(out, "tar", sound(8_000)),
        "wrong sample rate",
        "8000 Hz, expected 16000; prepare the language again",
        "own.tar:512:33044: 8000 Hz with 1 channel(s), expected 16000 Hz mono; prepare the corpus again",
    ),
    "8 kHz in a zip": (
        lambda out: put(out, "zip", sound(8_000)),
        "wrong sample rate",
        "8000 Hz, expected 16000; prepare the language again",
        "own.zip:35:33044: 8000 Hz with 1 channel(s), expected 16000 Hz mono; prepare the corpus again",
    ),
    "stereo": (
        lambda out: put(out, "tar", sound(channels=2)),
        "not mono",
        "2 channels, expected 1",
        "16000 Hz with 2 channel(s)",
    ),
    "another length": (
        lambda out: put(out, "tar", sound(num_samples=SECOND)),
        "wrong length",
        "16000 samples, but the manifest says 16500",
        "own.tar:512:32044: 16000 samples, but its manifest says 16500; restore the shard, or " + AGAIN,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_told_by_validation_and_by_training(tmp_path: Path, fault: str) -> None:
    spoil, kind, told, told_late = FAULTS[fault]
    src, out = build(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out) == 0
    validation.validate(out).raise_if_bad()  # and so the sound shard has been open in this process
    spoil(out)
    report = validation.validate(out, splits=["train"])
    assert set(report.counts) == {kind}
    shard = out / "eng" / "shards" / "train-00000.tar"
    lines = [line for line in report.problems() if f"{out}/eng/train.tsv:3: " in line]
    assert len(lines) == 1 and told.format(shard=shard) in lines[0], lines
    table = manifest.read_manifest(out / "eng" / "train.tsv")
    with pytest.raises(ValueError) as raised:
        read_utterance(table.path(1), int(table.num_samples[1]), True)
    assert told_late.format(shard=shard) in str(raised.value)
    assert str(table.path(1)).rsplit(":", 2)[0] in str(raised.value)


def test_a_rebuilt_tar_whose_bytes_still_decode_is_named_by_its_length(tmp_path: Path) -> None:
    """Found late: the place holds another utterance, which only its number of samples gives away."""
    src, out = build(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out, "--keep") == 0
    first, second = list(manifest.read_manifest(out / "eng" / "train.tsv").names())[:2]
    row(out, lambda offset, size: (512 + 1024, size))  # past a pax header and the file's own: the first utterance
    assert first.split(":")[1] == "1536" and first != second
    path = manifest.read_manifest(out / "eng" / "train.tsv").path(1)
    with pytest.raises(ValueError) as raised:
        read_utterance(path, SECOND + 500, True)
    told = str(raised.value)
    assert told.startswith(f"{path}: 16400 samples, but its manifest says 16500; expected a file of 33044 bytes, ")
    assert told.endswith(f"the header before it is that of 'eng_train_train0?.wav' of 32844 bytes; {AGAIN}")


def test_what_is_no_archive_and_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "text.zip").write_text("hello " * 99)
    (tmp_path / "link.tar").symlink_to(tmp_path / "link.tar")
    kind, told = audio_files.probe(tmp_path / "text.zip:100:100", SECOND) or ("", "")
    assert (kind, told) == ("not in its shard", "expected the header of a file of 100 bytes before it, found none")
    kind, told = audio_files.probe(tmp_path / "link.tar:512:100", SECOND) or ("", "")
    assert kind == "unreadable audio" and "link.tar: [Errno" in told
    with pytest.raises(audio_files.AudioError, match=r"link\.tar: not readable .*; restore it, or pack again with"):
        audio_files.read_bytes(tmp_path / "link.tar:512:100")
    assert audio_files.probe(tmp_path / "folder.tar:512:100", SECOND) is not None
    with pytest.raises(audio_files.AudioError, match=r"gone\.wav: not readable .*; check with tools/valid"):
        audio_files.read_bytes(tmp_path / "gone.wav")


def test_a_header_that_is_not_a_files_is_told(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    told = audio_files.probe(tmp_path / "s.tar:512:0", SECOND)
    what = "expected a file of 0 bytes, the header before it is that of 'folder' of 0 bytes, which is not a file"
    assert told == ("not in its shard", what)


def test_an_encrypted_member_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("a.wav", sound())
    data = bytearray((tmp_path / "s.zip").read_bytes())
    data[6] |= 1
    (tmp_path / "s.zip").write_bytes(data)
    told = audio_files.probe(tmp_path / f"s.zip:35:{len(sound())}", SECOND)
    assert told == ("compressed in its shard", "method 0, encrypted, expected 0, stored as it is")


def test_a_zip_index_of_another_size_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as archive:
        archive.writestr("a.wav", sound())
    told = audio_files.probe(tmp_path / f"s.zip:35:{len(sound()) - 2}", SECOND)
    what = f"expected a file of {len(sound()) - 2} bytes, the header before it is that of one of {len(sound())}"
    assert told == ("not in its shard", what)


def test_the_state_of_packing_names_settings_and_shards(tmp_path: Path) -> None:
    src, out = build(tmp_path / "src"), tmp_path / "out"
    assert pack(src, out, "--shard-mb", 7) == 0
    state = json.loads((out / "eng" / "packed.json").read_text())
    assert list(state) == ["train", "dev", "test"]
    shard = out / "eng" / "shards" / "train-00000.tar"
    assert state["train"]["shards"] == {"train-00000.tar": shard.stat().st_size}
    assert state["train"]["settings"] | {"source": "", "sha256": ""} == {
        "format": "tar",
        "shard_mb": 7,
        "keep": False,
        "relative_root": False,
        "source": "",
        "sha256": "",
    }


def test_pieces_are_packed_too_also_when_they_were_built_later(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    src, out = build(tmp_path / "src", ("eng", "fra")), tmp_path / "out"
    assert pack(src, out) == 0
    shards = {path: path.stat().st_mtime_ns for path in out.rglob("*.tar")}
    assert build_units.main([str(src), "--vocab-size", "20"]) == 0
    assert pack(src, out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.tar")} == shards
    files = ["dict.units.txt", *(f"{s}.units" for s in SPLITS)]
    for name in ["dict.units.txt", *(f"{lang}/{file}" for lang in ("eng", "fra") for file in [*files, "units.model"])]:
        assert (out / name).read_bytes() == (src / name).read_bytes()
    assert validation.validate(out, kind=UnitKind.sentencepiece).problems() == []


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_full_disk_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    src = build(tmp_path / "src")
    with disks.full(60_000):
        assert pack(src, tmp_path / "out", "--format", form) == 1
    assert (
        capsys.readouterr().err == f"error: [Errno 27] File too large: '{tmp_path}/out/eng/shards/train-00000.{form}'\n"
    )
    assert not list((tmp_path / "out").rglob(".*")) and not list((tmp_path / "out").rglob("*.tsv"))
    assert pack(src, tmp_path / "out", "--format", form) == 0
