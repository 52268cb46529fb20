"""The formats that the project reads, an example of each, and the commands that read it."""

import gzip
import io
import json
import shutil
import subprocess
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import forked
import soundfile
from tiny_lab import OFTEN, Lab

Command = tuple[str, ...]  # {w} is the folder of this try, {t} that of the examples, which nobody changes
KENLM = forked.REPOSITORY / ".kenlm/bin/build_binary"
WAV = "{t}/data/eng/audio/test_0.wav"


@dataclass(frozen=True)
class Format:
    """Files of a format. `sealed`: it holds checksums, so changed bytes are refused or change nothing."""

    name: str
    files: tuple[str, ...]  # patterns of what is changed, below the folder of a try
    commands: tuple[Command, ...]
    rare: tuple[Command, ...] = ()  # those that take seconds, run in one of ten tries
    sealed: bool = False

    @property
    def folders(self) -> set[str]:
        """What a try needs a copy of."""
        given = " ".join(word for command in (*self.commands, *self.rare) for word in command)
        named = {part.split("/")[0].split()[0] for part in given.split("{w}/")[1:]}
        return {pattern.split("/")[0] for pattern in self.files} | named


def evaluate(checkpoint: str, *more: str, data: str = "{w}/data") -> Command:
    return ("evaluate", f"checkpoint={checkpoint}", f"data={data}", "langs=[eng]", "out={w}/out", *more)


def transcribe(checkpoint: str, *more: str, audio: str = WAV) -> Command:
    return ("transcribe", audio, "--checkpoint", checkpoint, "--out", "{w}/out.jsonl", "--format", "jsonl", *more)


def identify(checkpoint: str, audio: str = WAV) -> Command:
    return ("identify", audio, "--checkpoint", checkpoint, "--json")


def lsah(data: str, base: str, updates: int = 2, runs: str = "begun") -> Command:
    given = (f"task.data={data}", f"model.base={base}", f"runs={{w}}/{runs}", f"optimization.max_update={updates}")
    return ("train", "+experiment=smoke_lsah", *given, *OFTEN)


VALIDATE = ("tools/validate_manifests.py", "{w}/data")
DENSE, ADAPTERS = "{t}/dense.pt", "{t}/adapters"
PREPARE = ("tools/prepare_folder.py", "{w}/table/table.csv", "{w}/out", "--lang", "eng", "--jobs", "1")
PREPARE_TSV = (*PREPARE[:1], "{w}/table/table.tsv", *PREPARE[2:])
ENG = ("--lang", "eng")
WITH_LM = ("decoding=lm", "decoding.lm={w}/lm", "decoding.beam_size=10", "decoding.workers=1")
CORPUS = (VALIDATE, evaluate(DENSE))
TRAINED = (lsah("{w}/data", DENSE),)
FORMATS = {
    found.name: found
    for found in (
        Format("manifest", ("data/eng/*.tsv",), CORPUS, TRAINED),
        Format("labels", ("data/eng/*.ltr", "data/eng/*.wrd", "data/eng/*.uid"), CORPUS, TRAINED),
        Format("dictionary", ("data/eng/dict.ltr.txt",), (VALIDATE, evaluate(ADAPTERS)), TRAINED),
        Format("prepared", ("data/prepared.json",), (VALIDATE, evaluate(DENSE, "+benchmark=fleurs_asr")), TRAINED),
        Format("table_csv", ("table/table.csv",), (PREPARE,)),
        Format("table_tsv", ("table/table.tsv",), (PREPARE_TSV,)),
        Format(
            "fleurs_table",
            ("fleurs/data/en_us/*.tsv",),
            (("tools/prepare_fleurs.py", "{w}/fleurs", "{w}/out", "--splits", "train,dev"),),
        ),
        Format(
            "fleurs_archive",
            ("fleurs/data/en_us/audio/train.tar.gz",),
            (("tools/prepare_fleurs.py", "{w}/fleurs", "{w}/out", "--splits", "train,dev"),),
            sealed=True,
        ),
        Format(
            "adapter",
            ("adapters/eng.safetensors",),
            (transcribe("{w}/adapters", *ENG, "--base", DENSE),),
            (
                evaluate("{w}/adapters", "base={t}/dense.pt", data="{t}/data"),
                ("convert", "{w}/adapters", "{w}/made", "--to", "adapters", "--base", "{t}/dense.pt"),
            ),
        ),
        Format(
            "dense_pt",
            ("dense.pt",),
            (transcribe("{w}/dense.pt", *ENG),),
            (
                evaluate("{w}/dense.pt", data="{t}/data"),
                lsah("{t}/data", "{w}/dense.pt"),
                ("convert", "{w}/dense.pt", "{w}/made", "--to", "huggingface"),
            ),
            sealed=True,
        ),
        Format("lid_pt", ("lid.pt",), (identify("{w}/lid.pt"),), sealed=True),
        Format(
            "pretrained_pt",
            ("pretrained.pt",),
            (),
            (
                (
                    *("train", "+experiment=smoke_lid", "task.data={t}/data", "model.base={w}/pretrained.pt"),
                    *("runs={w}/begun", "optimization.max_update=2", *OFTEN),
                ),
            ),
            sealed=True,
        ),
        Format(
            "resumed_pt",
            ("runs/smoke_lsah/checkpoints/checkpoint_last.pt",),
            (),
            (lsah("{w}/data", DENSE, 5, "runs"),),
            sealed=True,
        ),
        Format(
            "run",
            ("runs/smoke_lsah/*.json", "runs/smoke_lsah/config.yaml"),
            (("status", "{w}/runs"),),
            (lsah("{w}/data", DENSE, 5, "runs"),),
        ),
        Format(
            "huggingface",
            ("hf/*.json", "hf/*.json", "hf/*.safetensors"),
            (transcribe("{w}/hf", *ENG),),
            (("convert", "{w}/hf", "{w}/made", "--to", "adapters"), evaluate("{w}/hf", data="{t}/data")),
        ),
        Format("evaluation", ("eval/scores.json", "eval/*.tsv"), (("report", "{w}/eval"),)),
        Format("lid_evaluation", ("lid_eval/scores.json", "lid_eval/*.tsv"), (("report", "{w}/lid_eval"),)),
        Format("temperature", ("lid.temperature.json",), (identify("{w}/lid.pt"),)),
        Format(
            "lm",
            ("lm/eng/*",),
            (transcribe(DENSE, *ENG, "--lm", "{w}/lm"), evaluate(DENSE, *WITH_LM, data="{t}/data")),
            (("tune", "checkpoint={t}/dense.pt", "data={t}/data", "langs=[eng]", "out={w}/out", *WITH_LM[1:]),),
        ),
        Format("lm_binary", ("lm_binary/eng/lm.bin",), (transcribe(DENSE, *ENG, "--lm", "{w}/lm_binary"),)),
        Format(
            "pack",
            ("packed_*/eng/shards/*", "packed_*/eng/shards/*", "packed_*/eng/*.tsv", "packed_*/eng/*.json"),
            tuple(
                command
                for kind in ("packed_tar", "packed_zip")
                for command in (("tools/validate_manifests.py", f"{{w}}/{kind}"), evaluate(DENSE, data=f"{{w}}/{kind}"))
            ),
        ),
        Format(
            "audio",
            ("sound/*",),
            (
                transcribe(DENSE, *ENG, audio="{w}/sound"),
                identify("{t}/lid.pt", "{w}/sound"),
                ("tools/prepare_folder.py", "{w}/sound/table.tsv", "{w}/out", "--lang", "eng", "--jobs", "1"),
            ),
        ),
    )
}


def write_examples(lab: Lab, folder: Path) -> None:
    """Write an example of each format into a new folder, from tiny models and their corpus."""
    shutil.copytree(lab.data, folder / "data")
    for tsv in (folder / "data").rglob("*.tsv"):  # so that copies use their own audio
        tsv.write_text("\n".join(["audio", *tsv.read_text().splitlines()[1:]]) + "\n")
    for path in (lab.dense, lab.lid, lab.pretrained):
        shutil.copy(path, folder)
    shutil.copytree(lab.adapters, folder / "adapters")
    _write_tables(folder)
    _write_sound(folder / "sound", folder / "data/eng/audio")
    _write_lm(folder / "lm/eng", folder / "data/eng")
    prepared = {"normalization": "mms-2", "languages": {"eng": {"splits": {"test": {"left_out": {"empty": ["x"]}}}}}}
    (folder / "data/prepared.json").write_text(json.dumps(prepared))
    lid = (f"checkpoint={folder / 'lid.pt'}", f"data={folder / 'data'}", f"out={folder / 'lid_eval'}")
    here = str(folder)
    evaluated = [word.replace("{w}/out", f"{here}/eval").replace("{w}", here) for word in evaluate(f"{here}/dense.pt")]
    for command in (
        [*evaluated, "word_times=true"],
        ["evaluate", "+benchmark=lid", *lid],
        ["convert", f"{here}/adapters", f"{here}/hf", "--to", "huggingface", "--base", f"{here}/dense.pt"],
        [word.replace("{w}", here).replace("{t}", here) for word in lsah("{w}/data", DENSE, 4, "runs")],
        *(
            ["tools/pack_shards.py", f"{here}/data", f"{here}/packed_{kind}", "--format", kind, "--relative-root"]
            for kind in ("tar", "zip")
        ),
    ):
        ended = forked.run(command[0], *command[1:])
        if ended.code:
            raise ValueError(f"the examples cannot be made: {' '.join(command)}: {ended.output[-2000:]}")


def _write_tables(folder: Path) -> None:
    data = folder / "data/eng"
    words = (data / "train.wrd").read_text().splitlines()
    (folder / "table").mkdir()
    shutil.copytree(data / "audio", folder / "table/audio")
    rows = [f"audio/train_{number}.wav\t{text}" for number, text in enumerate(words)]
    (folder / "table/table.tsv").write_text("\n".join(["path\ttext", *rows]) + "\n")
    (folder / "table/table.csv").write_text("\n".join(["path\ttext", *rows]).replace("\t", ",") + "\n")
    fleurs = folder / "fleurs/data/en_us"
    (fleurs / "audio/dev").mkdir(parents=True)
    for split in ("train", "dev"):
        texts = (data / f"{split}.wrd").read_text().splitlines()
        names = [f"{split}_{number}.wav" for number in range(len(texts))]
        lines = [f"{n}\t{names[n]}\t{text}\t{text}\tx\t9000\tFEMALE" for n, text in enumerate(texts)]
        (fleurs / f"{split}.tsv").write_text("\n".join(lines) + "\n")
        if split == "dev":
            for name in names:
                shutil.copy(data / "audio" / name, fleurs / "audio/dev")
            continue
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for name in names:
                archive.add(data / "audio" / name, f"{split}/{name}")
        (fleurs / "audio/train.tar.gz").write_bytes(gzip.compress(made.getvalue(), mtime=0))


def _write_sound(folder: Path, audio: Path) -> None:
    folder.mkdir()
    samples, rate = soundfile.read(audio / "test_0.wav")
    for name, kind in (("a.wav", "WAV"), ("b.flac", "FLAC"), ("c.ogg", "OGG"), ("d.mp3", "MP3")):
        soundfile.write(folder / name, samples, rate, format=kind)
    rows = [f"{path.name}\tbed {path.stem}" for path in sorted(folder.iterdir())]
    (folder / "table.tsv").write_text("\n".join(["path\ttext", *rows]) + "\n")


def _write_lm(folder: Path, data: Path) -> None:
    """A bigram model of the words of train, as ARPA text, its lexicon and weights."""
    folder.mkdir(parents=True)
    lines = [line.split() for line in (data / "train.wrd").read_text().splitlines()]
    words = sorted({word for line in lines for word in line})
    pairs = sorted(Counter(pair for line in lines for pair in zip(["<s>", *line], [*line, "</s>"], strict=True)))
    singles = ["-2\t<unk>", "-99\t<s>\t-0.3", "-1\t</s>", *(f"-1.5\t{word}\t-0.3" for word in words)]
    counts = ["\\data\\", f"ngram 1={len(singles)}", f"ngram 2={len(pairs)}", ""]
    both = [f"-0.5\t{' '.join(pair)}" for pair in pairs]
    (folder / "lm.bin").write_text(
        "\n".join([*counts, "\\1-grams:", *singles, "", "\\2-grams:", *both, "", "\\end\\", ""])
    )
    (folder / "lexicon.txt").write_text("".join(f"{word}\t{' '.join(word)} |\n" for word in words))
    if KENLM.is_file():
        binary = folder.parents[1] / "lm_binary/eng"
        shutil.copytree(folder, binary)
        subprocess.run([KENLM, folder / "lm.bin", binary / "lm.bin"], check=True, capture_output=True)
    else:
        print(f"no {KENLM} (make kenlm): KenLM's binary form is NOT tried")
    (folder / "decoding.json").write_text(json.dumps({"lm_weight": 1.0, "word_score": 0.5, "sil_score": 0.0}))
