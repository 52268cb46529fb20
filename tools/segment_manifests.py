"""From the utterances of recordings to manifests, language by language. The last work of tools/segment_audio.py."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segment_recording import Receipt, Recording, file_name

from mms_recipes.corpora.segmentation import divide
from mms_recipes.corpora.validation import SPLITS
from mms_recipes.files import write_text
from mms_recipes.manifest import SAMPLE_RATE


@dataclass(frozen=True)
class Summary:
    """What became of one language; lengths in samples, ``utterances`` by split."""

    lang: str
    recordings: int
    broken: int
    num_samples: int
    kept: int
    too_short: int
    too_short_samples: int
    utterances: Mapping[str, int]
    train_minutes: float

    def is_dropped(self) -> bool:
        """Say whether the language got no manifests."""
        return not any(self.utterances.values())

    def losses(self) -> str:
        """Say what is not in the manifests, and why."""
        silent = self.num_samples - self.kept - self.too_short_samples
        found = f"no speech {hours(silent)} h, too short {hours(self.too_short_samples)} h ({self.too_short} spans)"
        if self.is_dropped():
            found = f"all, because train has {self.train_minutes:.1f} min"
        return found + f", {self.broken} broken" * (self.broken > 0)


def write_manifests(
    lang: str,
    recordings: Sequence[Recording],
    receipts: Mapping[Recording, Receipt],
    shares: Mapping[str, float],
    args: argparse.Namespace,
) -> Summary:
    """Draw the utterances of one language into splits, and write their manifests if there is enough of train."""
    own = {recording: receipts[recording] for recording in recordings if recording in receipts}
    groups: dict[str, dict[str, int]] = {}  # what is drawn into one split together: lengths by path
    for recording, receipt in own.items():
        for number, (start, end) in enumerate(receipt.utterances):
            path = f"audio/{recording.name}/{file_name(number)}"
            groups.setdefault(path if args.split_by == "segment" else recording.name, {})[path] = end - start
    drawn = divide({name: sum(group.values()) for name, group in groups.items()}, shares, f"{args.seed} {lang}")
    splits: dict[str, dict[str, int]] = {split: {} for split in SPLITS}
    for name, group in groups.items():
        splits[drawn[name]] |= group
    minutes = sum(splits["train"].values()) / SAMPLE_RATE / 60
    if minutes < args.min_language_minutes or not splits["train"]:
        splits = {split: {} for split in SPLITS}
    folder = args.out / lang
    folder.mkdir(parents=True, exist_ok=True)
    for split, lengths in splits.items():
        if lengths:
            rows = "".join(f"{path}\t{num_samples}\n" for path, num_samples in lengths.items())
            write_text(folder / f"{split}.tsv", f"{'.' if args.relative_root else folder.resolve()}\n{rows}")
        else:
            (folder / f"{split}.tsv").unlink(missing_ok=True)
    too_short = [end - start for receipt in own.values() for start, end in receipt.too_short]
    return Summary(
        lang,
        recordings=len(recordings),
        broken=len(recordings) - len(own),
        num_samples=sum(receipt.num_samples for receipt in own.values()),
        kept=sum(sum(lengths.values()) for lengths in splits.values()),
        too_short=len(too_short),
        too_short_samples=sum(too_short),
        utterances={split: len(lengths) for split, lengths in splits.items()},
        train_minutes=minutes,
    )


def hours(num_samples: int) -> str:
    return f"{num_samples / SAMPLE_RATE / 3600:.2f}"


def table(summaries: Sequence[Summary]) -> str:
    """Return a line for each language, and one of sums."""
    rows = [["language", "files", "hours in", "kept", *SPLITS, "dropped"]]
    for each in summaries:
        rows.append([each.lang, *counts([each]), each.losses()])
    rows.append(["all", *counts(summaries), ""])
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]) - 1)]
    return "\n".join(
        row[0].ljust(widths[0]) + "".join(map(str.rjust, row[1:-1], widths[1:])) + f"  {row[-1]}" for row in rows
    )


def counts(summaries: Sequence[Summary]) -> list[str]:
    """Return the sums of some languages as cells of the table."""
    utterances = [sum(each.utterances[split] for each in summaries) for split in SPLITS]
    files = sum(each.recordings for each in summaries)
    lengths = [sum(each.num_samples for each in summaries), sum(each.kept for each in summaries)]
    return [f"{files:,}", *map(hours, lengths), *(f"{number:,}" for number in utterances)]
