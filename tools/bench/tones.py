"""A corpus that a tiny model learns in seconds: every letter is a tone, every language has its own tones.

Also runs the real commands' engine in this process, from the real configs.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from mms_recipes import config, manifest, runner, text

RATE = 16_000
LETTERS = {"eng": "abcdef", "fra": "abcdeg", "rus": "абвгде", "jpn": "あいうえおか"}
LETTER_SECONDS = 0.08


def write_corpus(folder: Path, langs: Sequence[str] = tuple(LETTERS), train: int = 40, dev: int = 6) -> Path:
    """Write train, dev and test of each language; the same call writes the same corpus."""
    total: dict[str, int] = {}
    for position, lang in enumerate(sorted(LETTERS)):
        if lang not in langs:
            continue
        generator = np.random.default_rng(position)
        for split, size in (("train", train), ("dev", dev), ("test", dev)):
            rows = [utterance(folder, lang, split, number, position, generator) for number in range(size)]
            manifest.write_split(folder / lang, split, folder / lang / "audio", rows)
        counts = manifest.count_letters([folder / lang / "train.ltr"])
        manifest.write_dictionary(folder / lang / "dict.ltr.txt", counts)
        total = {letter: total.get(letter, 0) + counts.get(letter, 0) for letter in {*total, *counts}}
    manifest.write_dictionary(folder / "dict.ltr.txt", total)
    return folder


def utterance(
    folder: Path, lang: str, split: str, number: int, position: int, generator: np.random.Generator
) -> manifest.Utterance:
    words = [
        "".join(generator.choice(list(LETTERS[lang]), generator.integers(2, 5)))
        for _ in range(generator.integers(2, 4))
    ]
    tones = [np.zeros(RATE // 20)]
    for letter in " ".join(words):
        place = (" " + LETTERS[lang]).index(letter)
        time = np.arange(int(RATE * LETTER_SECONDS)) / RATE
        tone = np.sin(2 * np.pi * (150 + 40 * position + 330 * place) * time) if place else np.zeros(len(time))
        tones += [tone * np.hanning(len(time)), np.zeros(RATE // 50)]
    audio = 0.3 * np.concatenate(tones) + 0.002 * generator.standard_normal(sum(map(len, tones)))
    path = folder / lang / "audio" / f"{split}_{number}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, RATE, subtype="PCM_16")
    return manifest.Utterance(
        path.name, len(audio), text.to_letters(" ".join(words)), " ".join(words), f"{lang}_{split}_{number}"
    )


def composed(experiment: str, *overrides: str) -> DictConfig:
    """The config that `python -m mms_recipes.train +experiment=... overrides` would run."""
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose("train", overrides=[f"+experiment={experiment}", *overrides])


def train(experiment: str, data: Path, runs: Path, *overrides: str) -> Path:
    """Train in this process; return the run's folder."""
    cfg = composed(experiment, f"task.data={data}", f"runs={runs}", *overrides)
    folder: Path = Path(cfg.runs) / str(cfg.name)
    runner.train(cfg, folder)
    return folder
