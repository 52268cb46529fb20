"""What can be wrong with prepared manifests, what to do about each kind, and the report that collects it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mms_recipes.audio_files import PACK_AGAIN

AGAIN = "restore the file, or prepare the language again"
# What can be wrong, and what to do about it; empty where the message says so itself.
REMEDIES = {
    "no manifest": "",
    "malformed manifest": "",
    "labels do not match": "",
    "letters and words differ": "they are of two texts or versions: prepare the language again",
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
    "stale units": "build the units again with tools/build_units.py",
    "too long for its audio": "CTC cannot emit this: see whether text and audio belong together, or take it out",
    "duplicate": "take one of them out",
    "in two splits": "take it out of one of them, or the scores mean nothing",
    "letters that only dev or test have": "they cannot be recognised and count as errors",
    "dev or test too long for its audio": "it cannot be recognised whole and counts as errors",
    "no dev split": "training chooses its best checkpoint on dev: prepare one (--dev-fraction 0.1)",
    "letters that look alike": "if they are one letter, write it in one way and prepare the language again",
    "scripts mixed in a word": "if it was typed with a letter that only looks right, mend the text",
    "rare letters": "see whether they are of the language",
}
NOTES = (  # these stop nothing
    "letters that only dev or test have",
    "dev or test too long for its audio",
    "no dev split",
    "letters that look alike",
    "scripts mixed in a word",
    "rare letters",
)


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
