"""Read the log of a run into curves: what was measured at which update, on the training split and on dev."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mms_recipes import alignment

LOG_NAME = "train.log"
TRAIN = "train"

# What fairseq's `simple` progress bar writes: `[train_inner]` with key=value every log_interval updates, `[dev]` with
# `key value` after a validation. The averages of an epoch (`[train]`) are left out. A run that was killed may leave
# half a line in which its successor goes on: the first `.*` takes the last line that begins in a line.
_LINE = re.compile(
    r".*\]\[(?:train_inner\]\[INFO\] - epoch \d+:\s+\d+ / \d+ "
    r"|\w+\]\[INFO\] - epoch \d+ \| valid on '(?P<subset>[^']+)' subset \| )(?P<numbers>.*)"
)
_FIELD = re.compile(r"(?:^|, | \| )(\w+)[= ]([^\s,|]+)(?=, | \||$)")


@dataclass(frozen=True)
class Metric:
    """How to show a number of the log; `better` is more, less, or None where neither is."""

    title: str
    unit: str
    better: str | None = None


# In the order in which they are drawn. A loss is per masked frame in pretraining and per utterance in CTC training.
METRICS = {
    "loss": Metric("loss", "bits per masked frame or utterance", "less"),
    "loss_0": Metric("contrastive loss", "bits per masked frame", "less"),
    "loss_1": Metric("diversity loss, weighted", "bits per masked frame", "less"),
    "loss_2": Metric("feature penalty, weighted", "bits per masked frame", "less"),
    "accuracy": Metric("accuracy", "share of masked frames", "more"),
    "code_perplexity": Metric("perplexity of the chosen codes", "codes, all groups", "more"),
    "prob_perplexity": Metric("perplexity of the mean softmax", "codes, all groups", "more"),
    "letter_loss": Metric("loss per letter", "bits per letter", "less"),
    "cer": Metric("character error rate", "%", "less"),
    "wer": Metric("word error rate", "%", "less"),
    "blank_percent": Metric("blank", "% of frames"),
    "gnorm": Metric("gradient norm", "L2 norm before clipping"),
    "lr": Metric("learning rate", "per update"),
    "temp": Metric("temperature of the Gumbel softmax", "no unit"),
    "audio_per_second": Metric("speed", "seconds of audio per second"),
    "data_wait_percent": Metric("waiting for data", "% of time"),
    "loss_scale": Metric("loss scale (16 bits)", "factor"),
}


@dataclass(frozen=True)
class Row:
    """The numbers of one line of the log. `split` is train or the name of the validation subset (dev)."""

    split: str
    num_updates: int
    metrics: dict[str, float]


def read_run(run: Path) -> list[Row]:
    """Return the rows of a run's folder (or of a log file) by update, train before dev.

    Where a run was resumed from an earlier update, what was logged later counts, and what had come after that update in
    the part that was lost is left out. Raises FileNotFoundError without a log, ValueError when it has no numbers yet.
    """
    path = run / LOG_NAME if run.is_dir() else run
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no log; expected the folder of a run, in which training writes {LOG_NAME}")
    with path.open(encoding="utf-8", errors="replace") as file:
        rows = parse(file)
    if not rows:
        raise ValueError(
            f"{path}: no line with the numbers of an update; expected '[train_inner][INFO] - epoch 001:  50 / 400 "
            "loss=...', which training writes every common.log_interval updates with common.log_format=simple"
        )
    return rows


def parse(lines: Iterable[str]) -> list[Row]:
    """Return the rows of a log's lines, as read_run does; lines without numbers are passed over."""
    rows: dict[tuple[int, str], Row] = {}
    last = 0
    for line in lines:
        row = _parse_line(line)
        if row is None:
            continue
        if row.num_updates < last:
            rows = {key: kept for key, kept in rows.items() if kept.num_updates <= row.num_updates}
        last = row.num_updates
        rows[row.num_updates, row.split] = row
    return sorted(rows.values(), key=lambda row: (row.num_updates, row.split != TRAIN, row.split))


def _parse_line(line: str) -> Row | None:
    match = _LINE.match(line)
    if match is None:
        return None
    numbers: dict[str, float] = {}
    for name, value in _FIELD.findall(match["numbers"].rstrip()):
        try:
            numbers[name] = float(value)
        except ValueError:
            continue
    # fairseq prints it with six digits, so above a million as 1.23457e+06
    num_updates = numbers.pop("num_updates", None)
    return None if num_updates is None else Row(match["subset"] or TRAIN, int(num_updates), numbers)


def metric_names(runs: Mapping[str, Sequence[Row]]) -> list[str]:
    """Return all metrics of these runs: first those of METRICS in its order, then others as they come."""
    found = list(dict.fromkeys(name for rows in runs.values() for row in rows for name in row.metrics))
    return [*(name for name in METRICS if name in found), *(name for name in found if name not in METRICS)]


def series(rows: Iterable[Row], split: str, metric: str) -> tuple[list[int], list[float]]:
    """Return updates and values of a metric on a split, where it was logged."""
    points = [(row.num_updates, row.metrics[metric]) for row in rows if row.split == split and metric in row.metrics]
    return [update for update, _ in points], [value for _, value in points]


def splits(rows: Iterable[Row]) -> list[str]:
    """Return the splits that were logged, train first."""
    return sorted({row.split for row in rows}, key=lambda split: (split != TRAIN, split))


def csv_text(runs: Mapping[str, Sequence[Row]]) -> str:
    """Return all rows of all runs as CSV: run, split, num_updates, then a column per metric (empty: not logged)."""
    names = metric_names(runs)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run", "split", "num_updates", *names])
    for run, rows in runs.items():
        for row in rows:
            cells = [f"{row.metrics[name]:g}" if name in row.metrics else "" for name in names]
            writer.writerow([run, row.split, row.num_updates, *cells])
    return out.getvalue()


def summary(runs: Mapping[str, Sequence[Row]], metrics: Sequence[str]) -> str:
    """Return a text table of each metric's first, best and last value; best only where more or less is better."""
    lines = [["run", "split", "metric", "first", "best", "at update", "last"]]
    for run, rows in runs.items():
        for split in splits(rows):
            for metric in metrics:
                updates, values = series(rows, split, metric)
                if values:
                    first, last = (f"{values[end]:g}" for end in (0, -1))
                    lines.append([run, split, metric, first, *_best(metric, updates, values), last])
    return alignment.text_table(lines, left=range(3))


def _best(metric: str, updates: Sequence[int], values: Sequence[float]) -> tuple[str, str]:
    better = METRICS[metric].better if metric in METRICS else None
    points = [(value, update) for update, value in zip(updates, values, strict=True) if value == value]  # not nan
    if better is None or not points:
        return "-", "-"
    value, update = min(points) if better == "less" else max(points, key=lambda point: (point[0], -point[1]))
    return f"{value:g}", f"{update:,}"
