"""Tiny models of each kind on a corpus of tones: what most of these tests start from. None may be changed: copy it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import tones

OFTEN = ("dataset.validate_interval_updates=4", "checkpoint.save_interval_updates=2")


@dataclass(frozen=True)
class Lab:
    """Where things are. Languages: eng, fra, jpn."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def pretrained(self) -> Path:
        return self.folder / "pretrained.pt"

    @property
    def dense(self) -> Path:
        return self.folder / "dense.pt"

    @property
    def adapters(self) -> Path:
        return self.folder / "adapters"

    @property
    def lid(self) -> Path:
        return self.folder / "lid.pt"

    @property
    def wav(self) -> Path:
        """An English utterance."""
        return self.data / "eng/audio/test_0.wav"

    def copy_data(self, target: Path, *langs: str) -> Path:
        """A copy of the corpus that a test may change; with `langs` of these languages alone."""
        shutil.copytree(self.data, target)
        for folder in [path for path in target.iterdir() if path.is_dir()]:
            if langs and folder.name not in langs:
                shutil.rmtree(folder)
                continue
            for tsv in folder.glob("*.tsv"):
                rows = tsv.read_text().splitlines()
                tsv.write_text("\n".join([str(folder / "audio"), *rows[1:]]) + "\n")
        return target

    def lsah(self, runs: Path, updates: int, *overrides: str) -> list[str]:
        """Arguments of `train` for a short LSAH run on the dense model."""
        common = (f"task.data={self.data}", f"model.base={self.dense}", f"runs={runs}")
        return ["+experiment=smoke_lsah", *common, f"optimization.max_update={updates}", *OFTEN, *overrides]


def build(folder: Path) -> None:
    """Write the corpus and train the models, each for a few updates."""
    lab = Lab(folder)
    data = tones.write_corpus(lab.data, ("eng", "fra", "jpn"), train=10, dev=3)

    def train(experiment: str, updates: int, *overrides: str) -> Path:
        length = f"optimization.max_update={updates}"
        return tones.train(experiment, data, folder / "runs", length, *OFTEN, *overrides)

    last = "checkpoints/checkpoint_last.pt"
    shutil.copy(train("smoke_pretrain", 4) / last, lab.pretrained)
    shutil.copy(train("smoke_ctc", 12, f"model.base={lab.pretrained}") / last, lab.dense)
    shutil.copytree(
        train("smoke_lsah", 12, f"model.base={lab.dense}", "model.head_init=dense") / "adapters", lab.adapters
    )
    shutil.copy(train("smoke_lid", 8, f"model.base={lab.pretrained}") / last, lab.lid)
