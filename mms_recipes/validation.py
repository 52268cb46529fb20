"""Check prepared manifests before anything is trained: all problems are collected, then reported at once."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from mms_recipes.audio_files import PACK_AGAIN, close_shards, is_in_shard, probe
from mms_recipes.manifest import (
    Labels,
    Lines,
    Manifest,
    count_letters,
    num_frames,
    read_dictionary,
    read_labels,
    read_manifest,
)

PROBES_AT_ONCE = 10_000
SPLITS = ("train", "dev", "test")
CheckAudio = Literal["all", "first", "none"]

AGAIN = "restore the file, or prepare the language again"
# What can be wrong, and what to do about it; empty where the message says so itself.
REMEDIES = {
    "no manifest": "",
    "malformed manifest": "",
    "labels do not match": "",
    "no dictionary": "",
    "no utterances": "leave the language out, or look in prepared.json why all were left out",
    "missing audio": AGAIN,
    "unreadable audio": AGAIN,
    "not in its shard": f"the shard was cut or replaced since its index was written: restore it, or {PACK_AGAIN}",
    "compressed in its shard": PACK_AGAIN,
    "wrong sample rate": "prepare the language again: preparation makes 16 kHz once",
    "not mono": "prepare the language again: preparation makes one channel once",
    "wrong length": f"the file was cut or replaced: {AGAIN}",
    "empty audio": "take the utterance out",
    "empty labels": "take the utterance out: nothing can be learnt from it",
    "letters outside the dictionary": "use the dictionary that was made with these manifests, or prepare them again",
    "too long for its audio": "CTC cannot emit this: see whether text and audio belong together, or take it out",
    "duplicate": "take one of them out",
    "in two splits": "take it out of one of them, or the scores mean nothing",
    "letters that only dev or test have": "they cannot be recognised and count as errors",
    "dev or test too long for its audio": "it cannot be recognised whole and counts as errors",
}
NOTES = ("letters that only dev or test have", "dev or test too long for its audio")  # these stop nothing


class ManifestError(ValueError):
    """Manifests that cannot be used; the message lists every kind of problem with places and remedies."""


@dataclass
class Report:
    """What validation found. ``amounts``: utterances and seconds by (language, split); ``found``: places by kind."""

    examples: int = 5  # places kept of each kind, so that a broken disk does not fill the memory
    counts: Counter[str] = field(default_factory=Counter)
    found: dict[str, list[str]] = field(default_factory=dict)
    amounts: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)

    def add(self, kind: str, message: str) -> None:
        """Note one problem: its kind (a key of REMEDIES) and a message ``file:line: what was found``."""
        self.counts[kind] += 1
        if self.counts[kind] <= self.examples:
            self.found.setdefault(kind, []).append(f"{message}; {REMEDIES[kind]}".removesuffix("; "))

    def problems(self) -> list[str]:
        """Return the lines of what must be mended, kind by kind."""
        return self._lines(kind for kind in self.found if kind not in NOTES)

    def num_problems(self) -> int:
        """Return how many problems there are, those beyond the examples included."""
        return sum(count for kind, count in self.counts.items() if kind not in NOTES)

    def notes(self) -> list[str]:
        """Return the lines of what should be known but stops nothing."""
        return self._lines(kind for kind in self.found if kind in NOTES)

    def raise_if_bad(self) -> None:
        """Raise one ManifestError that lists all problems, if there are any."""
        if lines := self.problems():
            raise ManifestError("\n".join([f"{self.num_problems()} to mend in the manifests:", *lines]))

    def table(self) -> str:
        """Return utterances and hours of each language and split as a text table, with a row of sums."""
        splits = list(dict.fromkeys(split for _, split in self.amounts))
        sums = {split: np.zeros(2) for split in splits}
        rows = []
        for lang in dict.fromkeys(lang for lang, _ in self.amounts):
            cells = [self.amounts.get((lang, split), (0, 0.0)) for split in splits]
            rows.append((lang, cells))
            for split, cell in zip(splits, cells, strict=True):
                sums[split] += cell
        rows.append(("all", [(int(sums[split][0]), float(sums[split][1])) for split in splits]))
        width = max(len(lang) for lang, _ in [*rows, ("language", [])])
        lines = [f"{'language':<{width}}" + "".join(f"{split:>12}{'hours':>10}" for split in splits)]
        for lang, cells in rows:
            lines.append(f"{lang:<{width}}" + "".join(f"{n:>12,}{seconds / 3600:>10.2f}" for n, seconds in cells))
        return "\n".join(lines)

    def _lines(self, kinds: Iterable[str]) -> list[str]:
        lines = []
        for kind in kinds:
            lines += self.found[kind]
            if (more := self.counts[kind] - len(self.found[kind])) > 0:
                lines.append(f"... and {more} more of this kind ({kind}: {self.counts[kind]})")
        return lines


def find_languages(folder: Path, splits: Sequence[str] = SPLITS) -> list[str]:
    """Return the languages that have a manifest of any of the splits under the folder, sorted.

    Raises FileNotFoundError when there is none.
    """
    langs = sorted({tsv.parent.name for split in splits for tsv in folder.glob(f"*/{split}.tsv")})
    if not langs:
        raise FileNotFoundError(
            f"{folder}: no manifests, expected {folder}/<lang>/{splits[0]}.tsv; prepare the corpus with "
            "tools/prepare_fleurs.py or tools/prepare_folder.py"
        )
    return langs


def validate(
    folder: Path,
    langs: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    check_audio: CheckAudio = "all",
    dictionary: Path | None = None,
    labelled: bool = True,
    threads: int = 8,
    progress: bool = False,
) -> Report:
    """Check the manifests of languages under ``folder`` and return everything found; nothing is raised for bad data.

    ``langs`` and ``splits``: None takes those that are there; what is named must be there. ``dictionary`` stands for
    the ``dict.ltr.txt`` of every language. ``labelled`` False checks audio only, for pretraining. ``check_audio`` opens
    the header of all files, of the first of each split, or of none.
    """
    from tqdm import tqdm

    close_shards()  # some may have been packed again since
    report = Report()
    with ThreadPoolExecutor(threads) as pool:
        for lang in tqdm(langs or find_languages(folder), "checking manifests", unit="lang", disable=not progress):
            check = _LanguageCheck(folder / lang, lang, report)
            present = [split for split in SPLITS if (folder / lang / f"{split}.tsv").exists()]
            for split in splits or present or SPLITS[:1]:
                check.split(split, labelled, dictionary or folder / lang / "dict.ltr.txt")
            check.duplicates()
            check.audio(check_audio, pool, progress)
    return report


def frames_needed(letters: str) -> int:
    """Return the least number of frames in which CTC can emit these letters: one each, and a blank between repeats."""
    tokens = letters.split()
    return len(tokens) + sum(left == right for left, right in pairwise(tokens))


class _LanguageCheck:
    """The checks of one language, adding to the report."""

    def __init__(self, folder: Path, lang: str, report: Report) -> None:
        self.folder, self.lang, self.report = folder, lang, report
        self.manifests: dict[str, Manifest] = {}
        self.labels: dict[str, Labels] = {}

    def split(self, split: str, labelled: bool, dictionary: Path) -> None:
        """Open one split and check rows and labels."""
        try:
            utterances = self.manifests[split] = read_manifest(self.folder / f"{split}.tsv")
        except FileNotFoundError as error:
            self.report.add("no manifest", str(error))
            return
        except ValueError as error:
            self.report.add("malformed manifest", str(error))
            return
        self.report.amounts[self.lang, split] = (len(utterances), utterances.seconds())
        if not len(utterances):
            self.report.add("no utterances", str(utterances.rows.file))
        for index in np.flatnonzero(utterances.num_samples == 0):
            self.report.add("empty audio", f"{utterances.rows.where(int(index))}: 0 samples")
        if labelled:
            self._open_labels(split, utterances, dictionary)

    def _open_labels(self, split: str, utterances: Manifest, dictionary: Path) -> None:
        try:
            labels = read_labels(self.folder, split, len(utterances))
            used = set(count_letters([labels.letters.file]))
        except (FileNotFoundError, ValueError) as error:
            self.report.add("labels do not match", str(error))
            return
        self.labels[split] = labels
        self._check_lengths(split, utterances, labels.letters)
        try:
            self._check_letters(split, labels.letters, used - set(read_dictionary(dictionary)))
        except (FileNotFoundError, ValueError) as error:
            self.report.add("no dictionary", str(error))

    def _check_lengths(self, split: str, utterances: Manifest, letters: Lines) -> None:
        """Find empty labels and labels that CTC cannot emit; only lines of suspicious length are read."""
        num_bytes, frames = letters.lengths(), num_frames(utterances.num_samples)
        kind = "too long for its audio" if split == "train" else "dev or test too long for its audio"
        for index in map(
            int, np.flatnonzero((num_bytes < 3) | (num_bytes > frames))
        ):  # a letter takes two bytes or more
            line = letters[index]
            if not line.strip("| "):
                self.report.add("empty labels", f"{letters.where(index)}: no letters")
            elif (needed := frames_needed(line)) > frames[index] and utterances.num_samples[index]:
                what = f"letters and repeats need {needed} frames, the audio has {frames[index]}"
                self.report.add(kind, f"{letters.where(index)}: {what}")

    def _check_letters(self, split: str, letters: Lines, unknown: set[str]) -> None:
        kind = "letters outside the dictionary" if split == "train" else "letters that only dev or test have"
        for index, line in enumerate(letters if unknown else ()):
            if found := sorted(unknown.intersection(line.split())):
                self.report.add(kind, f"{letters.where(index)}: {' '.join(map(_spell, found))}")

    def duplicates(self) -> None:
        """Find utterances with the same file or id, and across splits also with the same file name, length and
        words."""
        told: set[tuple[str, int]] = set()
        files = {
            split: (os.path.join(rows.root, name) for name in rows.names()) for split, rows in self.manifests.items()
        }
        self._find_repeats("file", files, told)
        self._find_repeats("id", {split: labels.uids for split, labels in self.labels.items()}, told)
        contents = {
            split: _contents(self.manifests[split], labels, f"{self.lang}_{split}_")
            for split, labels in self.labels.items()
        }
        self._find_repeats("file name, length and words", contents, told, within_split=False)

    def _find_repeats(
        self, what: str, keys: Mapping[str, Iterable[object]], told: set[tuple[str, int]], within_split: bool = True
    ) -> None:
        """Report utterances whose key an earlier one has; by hashes, since millions of keys would not fit as text."""
        hashes = {split: np.fromiter(map(hash, found), np.int64) for split, found in keys.items()}
        splits, begins = list(hashes), np.cumsum([0, *map(len, hashes.values())])
        values = np.concatenate([*hashes.values(), np.zeros(0, np.int64)])
        order = np.argsort(values, kind="stable")
        for rank in np.flatnonzero(values[order][1:] == values[order][:-1]) + 1:
            (first_split, first), (split, row) = (
                (splits[place], int(index - begins[place]))
                for index in order[rank - 1 : rank + 1]
                for place in [int(np.searchsorted(begins, index, side="right")) - 1]
            )
            if (split, row) in told or (split == first_split and not within_split):
                continue
            told.add((split, row))
            kind = "duplicate" if split == first_split else "in two splits"
            here, there = self.manifests[split].rows.where(row), self.manifests[first_split].rows.where(first)
            self.report.add(kind, f"{here}: same {what} as {there}")

    def audio(self, which: CheckAudio, pool: ThreadPoolExecutor, progress: bool) -> None:
        """Open the headers of all audio files, of the first of each split, or of none."""
        from tqdm import tqdm

        for split, utterances in self.manifests.items():
            wanted = {"all": len(utterances), "first": min(1, len(utterances)), "none": 0}[which]
            hidden = not progress or wanted < 10_000  # quick: the bar over languages is enough
            bar = tqdm(total=wanted, desc=f"{self.lang} {split}", unit="file", leave=False, disable=hidden)
            for start in range(0, wanted, PROBES_AT_ONCE):
                rows = range(start, min(start + PROBES_AT_ONCE, wanted))
                paths = [utterances.path(row) for row in rows]
                samples = [int(utterances.num_samples[row]) for row in rows]
                for row, path, found in zip(rows, paths, pool.map(probe, paths, samples), strict=True):
                    bar.update()
                    if found and samples[row - start]:  # empty ones are told already
                        kind, what = found
                        self.report.add(kind, f"{utterances.rows.where(row)}: {path}: {what}")
            bar.close()


def _spell(letter: str) -> str:
    """Show a letter with its code point: many of those that go wrong cannot be seen."""
    return f"{letter!r} ({' '.join(f'U+{ord(char):04X}' for char in letter)})"


def _contents(utterances: Manifest, labels: Labels, prefix: str) -> Iterator[tuple[str, int, str]]:
    """Yield what two copies of one utterance have in common, even in different folders and under different ids.

    In a shard the file has no name of its own, but the id ends in the one that it had.
    """
    rows = zip(utterances.names(), labels.uids, utterances.num_samples, labels.words, strict=True)
    for name, uid, num_samples, words in rows:
        stem = uid.removeprefix(prefix) if is_in_shard(name) else os.path.splitext(os.path.basename(name))[0]
        yield stem, int(num_samples), words
