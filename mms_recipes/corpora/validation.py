"""Check prepared manifests before anything is trained: all problems are collected, then reported at once."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from mms_recipes.audio_files import close_shards, is_in_shard, probe
from mms_recipes.corpora import lookalikes
from mms_recipes.corpora.problems import Report
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
from mms_recipes.parsing import shown
from mms_recipes.text import WORD_END, to_words
from mms_recipes.unit_kinds import PIECES_MODEL, UnitKind
from mms_recipes.units import read_units

PROBES_AT_ONCE = 10_000
PAIRS_SHOWN = 3
RARE, RARE_SHOWN, ENOUGH_TEXT, ALPHABET = 2, 8, 5_000, 150  # syllabaries and Han have rare letters by nature
SPLITS = ("train", "dev", "test")
CheckAudio = Literal["all", "first", "none"]


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
    kind: UnitKind = UnitKind.letters,
    threads: int = 8,
    progress: bool = False,
    letters: bool = False,
) -> Report:
    """Check the manifests of languages under ``folder`` and return everything found; nothing is raised for bad data.

    ``langs`` and ``splits``: None takes those that are there; what is named must be there. ``kind`` says which
    labels are used. ``dictionary`` stands for that of every language. ``labelled`` False checks audio only, for
    pretraining. ``check_audio`` opens the header of all files, of the first of each split, or of none. ``letters``
    also looks for letters that look alike or hardly occur.
    """
    from tqdm import tqdm

    close_shards()  # some may have been packed again since
    report = Report()
    with ThreadPoolExecutor(threads) as pool:
        for lang in tqdm(langs or find_languages(folder), "checking manifests", unit="lang", disable=not progress):
            check = _LanguageCheck(folder / lang, lang, kind, dictionary, report)
            present = [split for split in SPLITS if (folder / lang / f"{split}.tsv").exists()]
            for split in splits or present or SPLITS[:1]:
                check.split(split, labelled)
            if kind is UnitKind.sentencepiece and labelled:
                check.pieces()
            if splits is None and labelled and "train" in present and "dev" not in present:
                report.add("no dev split", f"{folder / lang}: train.tsv, but no dev.tsv")
            if letters and kind is UnitKind.letters:
                check.letters()
            check.duplicates()
            check.audio(check_audio, pool, progress)
    return report


def frames_needed(letters: str) -> int:
    """Return the least number of frames in which CTC can emit these letters: one each, and a blank between repeats."""
    tokens = letters.split()
    return len(tokens) + sum(left == right for left, right in pairwise(tokens))


class _LanguageCheck:
    """The checks of one language, adding to the report."""

    def __init__(self, folder: Path, lang: str, kind: UnitKind, dictionary: Path | None, report: Report) -> None:
        self.folder, self.lang, self.kind, self.report = folder, lang, kind, report
        self.shared = dictionary is not None  # by all languages
        self.dictionary = dictionary or folder / kind.dictionary
        self.named = "letters" if kind is UnitKind.letters else "units"  # in messages
        self.manifests: dict[str, Manifest] = {}
        self.labels: dict[str, Labels] = {}
        self.counts: Counter[str] = Counter()  # of units, in all splits

    def split(self, split: str, labelled: bool) -> None:
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
            self._open_labels(split, utterances)

    def _open_labels(self, split: str, utterances: Manifest) -> None:
        try:
            labels = read_labels(self.folder, split, len(utterances), self.kind)
            used = count_letters([labels.units.file])
        except (FileNotFoundError, ValueError) as error:
            self.report.add("labels do not match", str(error))
            return
        self.labels[split] = labels
        self.counts += used
        if self.kind is UnitKind.letters:  # pieces are compared with what their model writes
            self._check_words(labels)
        self._check_lengths(split, utterances, labels.units)
        try:
            self._check_letters(split, labels.units, used.keys() - set(read_dictionary(self.dictionary)))
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
                what = f"{self.named} and repeats need {needed} frames, the audio has {frames[index]}"
                self.report.add(kind, f"{letters.where(index)}: {what}")

    def _check_letters(self, split: str, letters: Lines, unknown: set[str]) -> None:
        outside = "letters outside the dictionary" if self.kind is UnitKind.letters else "stale units"
        kind = outside if split == "train" else "letters that only dev or test have"
        for index, line in enumerate(letters if unknown else ()):
            if found := sorted(unknown.intersection(line.split())):
                self.report.add(kind, f"{letters.where(index)}: {' '.join(map(_spell, found))}")

    def _check_words(self, labels: Labels) -> None:
        """Find lines whose letters do not spell their words: training learns the one, evaluation scores the other."""
        try:
            for index, (line, words) in enumerate(zip(labels.units, labels.words, strict=True)):
                plain = words.replace(" ", WORD_END) + WORD_END
                if line.replace(" ", "") == plain or not line.strip(f" {WORD_END}"):
                    continue  # empty labels are a kind of their own
                if to_words(line) != " ".join(words.split()):
                    what = f"the letters spell {shown(to_words(line))}, the words are {shown(words)}"
                    where = f"{labels.units.where(index)} and {labels.words.where(index)}"
                    self.report.add("letters and words differ", f"{where}: {what}")
        except ValueError as error:
            self.report.add("labels do not match", str(error))

    def letters(self) -> None:
        """Note letters that look alike, words of two scripts, and letters that hardly occur."""
        letters = [letter for letter in self.counts if letter != WORD_END]
        across = []  # pairs of two scripts: many where text has foreign words, so one note for all
        for group in lookalikes.find(letters):
            group.sort(key=lambda letter: -self.counts[letter])
            places = [f"{_spell(letter)} {self.counts[letter]} times ({self._first(letter)})" for letter in group]
            if lookalikes.are_mixed(group):
                across.append(" and ".join(places))
            else:
                self.report.add("letters that look alike", f"{self.lang}: {', '.join(places)}")
        if across:
            what = f"{len(across)} of two scripts, such as {'; '.join(across[:PAIRS_SHOWN])}"
            self.report.add("letters that look alike", f"{self.lang}: {what}")
        if lookalikes.are_mixed(letters):
            for labels in self.labels.values():
                for index, words in enumerate(labels.words):
                    if found := lookalikes.mixed_word(words):
                        word, others = found
                        what = f"{word!r} has {', '.join(map(_spell, others))}"
                        self.report.add("scripts mixed in a word", f"{labels.words.where(index)}: {what}")
        rare = [letter for letter in letters if self.counts[letter] <= RARE]
        if rare and self.counts.total() >= ENOUGH_TEXT and len(letters) <= ALPHABET:
            places = [f"{_spell(letter)} ({self._first(letter)})" for letter in sorted(rare)[:RARE_SHOWN]]
            more = f" and {len(rare) - RARE_SHOWN} more" if len(rare) > RARE_SHOWN else ""
            what = f"{len(rare)} of {len(letters)} letters occur once or twice: {', '.join(places)}{more}"
            self.report.add("rare letters", f"{self.lang}: {what}")

    def _first(self, letter: str) -> str:
        """Return the first place of a letter."""
        lines = (labels.units for labels in self.labels.values())
        return next(each.where(index) for each in lines for index, line in enumerate(each) if letter in line)

    def pieces(self) -> None:
        """Find labels and a dictionary that the language's sentencepiece model does not have or would not write."""
        path = self.folder / PIECES_MODEL
        try:
            units, listed = read_units(path), set(read_dictionary(self.dictionary))
        except (FileNotFoundError, ValueError) as error:
            self.report.add("no dictionary", str(error))
            return
        pieces = set(units.pieces())
        if wrong := sorted(pieces - listed if self.shared else pieces ^ listed):
            what = f"{len(wrong)} pieces are not in both, such as {_spell(wrong[0])}"
            self.report.add("stale units", f"{self.dictionary} and {path}: {what}")
        for labels in self.labels.values():
            for index, (line, words) in enumerate(zip(labels.units, labels.words, strict=True)):
                expected = " ".join(units.encode(words)) if WORD_END not in words else ""
                if line != expected:
                    what = f"found {line!r}, expected {expected!r}, as {PIECES_MODEL} spells {words!r}"
                    self.report.add("stale units", f"{labels.units.where(index)}: {what}")

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
