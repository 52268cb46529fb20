"""Turn a corpus into manifests, one language and split at a time: what the tools that know corpora share.

``OUT/<lang>/`` gets manifests, labels, ``dict.ltr.txt`` of the train split, ``audio/<split>/`` where audio had to be
copied or made, and ``prepared.json``, which is written last for each split: what it names is whole and is skipped next
time. ``OUT/`` gets the union of the dictionaries and a ``prepared.json`` of all languages in it.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mms_recipes import __version__, audio_files
from mms_recipes.corpora import archives, paths, segments
from mms_recipes.corpora.losses import Losses
from mms_recipes.corpora.segments import Span
from mms_recipes.corpora.validation import frames_needed
from mms_recipes.files import write_text
from mms_recipes.manifest import (
    LABEL_SUFFIXES,
    PREPARED,
    SAMPLE_RATE,
    Utterance,
    count_letters,
    num_frames,
    write_dictionary,
    write_split,
)
from mms_recipes.parsing import Schema, load_json, parse, shown
from mms_recipes.text import NORMALIZATION, NORMALIZATIONS, to_letters

# Why an utterance is not in the manifest. The first two are damage; the others are in the nature of the corpus.
MISSING, BROKEN = "audio missing", "audio broken"
EMPTY, TWICE, TOO_LONG = "text empty after normalisation", "a second time in the split", "text too long for its audio"

EXPLAINED = 20  # missing files of a split of which is said what lies near them

Say = Callable[[str], None]
Placed = audio_files.Placed | str  # the audio, or why it cannot be used


@dataclass(frozen=True)
class Source:
    """One utterance as the corpus has it: ``name`` becomes its id and file name; ``audio`` may lie in the archive
    instead. ``where``: file:line, for messages. ``span``: begin and end in seconds, where it is a part of the audio."""

    name: str
    text: str
    audio: Path
    where: str = ""
    span: Span | None = None

    @property
    def sound(self) -> tuple[str, Span | None]:
        """Return what two utterances of the same audio have in common."""
        return os.path.normpath(self.audio), self.span


@dataclass(frozen=True)
class SplitSource:
    """One split as the corpus has it; ``settings`` tell when it must be prepared again, 'normalization' among them."""

    utterances: Sequence[Source]
    archive: Path | None
    settings: Mapping[str, str]


@dataclass
class SplitSummary:
    """What was made of a split: kept in ``prepared.json``. ``left_out``: ids by reason, with details where there are
    any. ``remarks``: ids with what is to be known of their audio, which was used."""

    settings: dict[str, str]
    utterances: int = 0
    hours: float = 0.0
    utterances_with_digits: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)
    words_changed: int = 0  # by more than case and punctuation
    dropped: dict[str, int] = field(default_factory=dict)  # characters that normalisation took out
    remarks: list[str] = field(default_factory=list)  # on audio that is used
    is_archive_damaged: bool = False  # then it is prepared again the next time

    def leave_out(self, reason: str, what: str) -> None:
        """Note an utterance that is not in the manifest."""
        self.left_out.setdefault(reason, []).append(what)

    def is_damaged(self) -> bool:
        """Say whether audio was missing or broken."""
        return self.num_damaged() > 0

    def num_damaged(self) -> int:
        """Return how many utterances are left out because of their audio."""
        return len(self.left_out.get(MISSING, ())) + len(self.left_out.get(BROKEN, ()))

    def line(self) -> str:
        """Return the summary in one line."""
        text = f"{self.utterances} utterances, {self.hours:.2f} h"
        for reason, names in self.left_out.items():
            text += f"; left out, {reason}: {_some(names)}"
        if self.remarks:
            text += f"; used, but look at their audio, {len(self.remarks)}: {_some(self.remarks)}"
        if self.utterances_with_digits > 0.05 * self.utterances:
            share = 100 * self.utterances_with_digits / self.utterances
            text += f"; {share:.0f} % hold digits: check how {self.settings['normalization']} treats them"
        return text


def prepare_language(
    out: Path, lang: str, splits: Mapping[str, SplitSource], relative_root: bool, threads: int = 1, say: Say = print
) -> dict[str, SplitSummary]:
    """Prepare the splits of one language that are not finished, then its dictionary; return the summary of each.

    ``say`` gets a line for each split. Raises ValueError when the folder holds data of another normalisation, or when
    the same audio has two texts.
    """
    _refuse_two_texts(splits, lang)
    folder = out / lang
    state = _read_state(folder)
    for split, source in splits.items():
        settings = {**source.settings, "root": "relative" if relative_root else "absolute"}
        old = state["splits"].get(split)
        if (
            old
            and old["settings"] == settings
            and not old.get("is_archive_damaged")
            and all((folder / f"{split}.{s}").exists() for s in ("tsv", *LABEL_SUFFIXES))
        ):
            say(f"{lang} {split}: finished before, {SplitSummary(**old).line()}")
            continue
        _check_normalization(folder, state, split, settings["normalization"])
        state["splits"].pop(split, None)
        state.pop("letters", None)
        _write_state(folder, state)  # from here until the end neither split nor dictionary are whole
        summary = _prepare_split(folder, lang, split, source, settings, threads, say)
        say(f"{lang} {split}: {summary.line()}")
        state["splits"][split] = asdict(summary)
        _write_state(folder, state)
    if "letters" not in state:
        _write_letters(folder, lang, state, say)
    return {split: SplitSummary(**state["splits"][split]) for split in splits}


def normalization_for(out: Path, lang: str, asked: str | None, say: Say = print) -> str:
    """Return the normalisation for a language: the one asked for, else that of what ``out`` holds, else the newest."""
    own, all_langs = (
        {split["settings"]["normalization"] for state in states for split in state["splits"].values()}
        for states in ([_read_state(out / lang)], [_read_state(path.parent) for path in out.glob(f"*/{PREPARED}")])
    )
    found = own or all_langs
    chosen = asked or (found.pop() if len(found) == 1 else NORMALIZATION)
    if not asked and chosen not in (NORMALIZATION, "none"):
        newer = f"--normalization {NORMALIZATION} needs another folder"
        say(f"{lang}: normalised as {chosen}, like what {out} holds; {newer}")
    return chosen


def finish(out: Path) -> None:
    """Write the union of the dictionaries of all languages in the folder, and ``prepared.json`` over all."""
    states = {path.parent.name: _read_state(path.parent) for path in sorted(out.glob(f"*/{PREPARED}"))}
    if not states:
        return
    counts: Counter[str] = Counter()
    for state in states.values():
        counts.update(state.get("letters", {}))
    if counts:
        write_dictionary(out / "dict.ltr.txt", counts)
    used = {split["settings"]["normalization"] for state in states.values() for split in state["splits"].values()}
    hours = sum(split["hours"] for state in states.values() for split in state["splits"].values())
    summary = {"normalization": sorted(used), "mms_recipes": __version__, "hours": hours, "languages": states}
    write_text(out / PREPARED, json.dumps(summary, ensure_ascii=False, indent=1) + "\n")


def report_damage(summaries: Mapping[str, SplitSummary], allowed: bool) -> int:
    """Print to stderr what was missing or broken, by split or language and split; return the exit code.

    A split of which nothing is left is of no use, whatever is allowed.
    """
    if empty := [name for name, summary in summaries.items() if not summary.utterances]:
        print(f"no utterance is left of {', '.join(empty)}: see above what was left out, and why", file=sys.stderr)
        return 1
    counts = {name: summary.num_damaged() for name, summary in summaries.items() if summary.is_damaged()}
    if not counts:
        return 0
    total = sum(counts.values())
    noun = "utterance has" if total == 1 else "utterances have"
    where = ", ".join(f"{number} of {name}" for name, number in counts.items())
    remedy = "" if allowed else ". To accept this, add --allow-missing"
    print(
        f"{total} {noun} no audio that can be used and {'is' if total == 1 else 'are'} left out ({where}); everything "
        f"else was written{remedy}",
        file=sys.stderr,
    )
    return 0 if allowed else 1


def _prepare_split(
    folder: Path, lang: str, split: str, source: SplitSource, settings: dict[str, str], threads: int, say: Say
) -> SplitSummary:
    summary = SplitSummary(settings)
    normalize = NORMALIZATIONS[settings["normalization"]]
    losses = Losses(normalize, lang)
    chosen: dict[str, tuple[Source, str]] = {}
    seen: set[tuple[str, Span | None]] = set()
    for utterance in source.utterances:
        uid = f"{lang}_{split}_{utterance.name}"
        words = normalize(utterance.text, lang)
        if settings["normalization"] != "none":
            losses.add(utterance.text, words)
        if utterance.sound in seen:
            summary.leave_out(TWICE, _described(uid, utterance, "the same text"))
        elif not words:
            summary.leave_out(EMPTY, _described(uid, utterance, shown(utterance.text)))
        else:
            chosen[_free_name(_safe_name(utterance.name), chosen)] = (utterance, words)
        seen.add(utterance.sound)
    wanted = {name: row for name, (row, _) in chosen.items()}
    audio, summary.is_archive_damaged = _place_audio(folder / "audio" / split, wanted, source.archive, threads, say)
    rows: list[Utterance] = []
    missing: dict[str, float] = {}  # seconds, of segments that end after their recording
    for name, (utterance, words) in chosen.items():
        uid, found, letters = f"{lang}_{split}_{name}", audio.get(name, MISSING), to_letters(words)
        if isinstance(found, str):
            if found == MISSING:
                explained = len(summary.left_out.get(MISSING, ())) < EXPLAINED
                found = f"not in {source.archive.name}" if source.archive else _absent(utterance, explained)
                if summary.is_archive_damaged and source.archive:
                    found = f"{source.archive.name} is damaged"
                summary.leave_out(MISSING, _described(uid, utterance, found))
            else:
                summary.leave_out(BROKEN, _described(uid, utterance, found))
        elif split == "train" and frames_needed(letters) > num_frames(found[1]):
            summary.leave_out(TOO_LONG, uid)
        else:
            summary.remarks += [_described(uid, utterance, remark) for remark in found.remarks]
            rows.append(Utterance(_relative(found[0], folder), found[1], letters, words, uid))
            if utterance.span and (seconds := segments.missing_seconds(utterance.span, found[1])):
                missing[uid] = seconds
            summary.utterances_with_digits += any(map(str.isdecimal, utterance.text))
    if missing:
        latest = max(missing, key=lambda uid: missing[uid])
        say(f"{lang} {split}: {len(missing)} segments end after their recording: {latest} by {missing[latest]:.2f} s")
    for line in losses.lines():
        say(f"{lang} {split}: {line}")
    summary.words_changed, summary.dropped = losses.words_changed, dict(losses.dropped.most_common())
    write_split(folder, split, folder, rows, relative_root=settings["root"] == "relative")
    summary.utterances, summary.hours = len(rows), sum(row.num_samples for row in rows) / SAMPLE_RATE / 3600
    return summary


def _refuse_two_texts(splits: Mapping[str, SplitSource], lang: str) -> None:
    """Raise ValueError when the same audio stands in two rows with different texts: nobody knows which is right."""
    first: dict[tuple[str, Span | None], tuple[Source, str]] = {}
    for source in splits.values():
        normalize = NORMALIZATIONS[source.settings["normalization"]]
        for utterance in source.utterances:
            words = normalize(utterance.text, lang)
            other, text = first.setdefault(utterance.sound, (utterance, words))
            if text != words:
                what = "the same part of the same file" if utterance.span else "the same file"
                raise ValueError(
                    f"{utterance.where}: {utterance.audio.name}: {what} as {other.where}, but another text: "
                    f"{shown(words)}, there {shown(text)}; take one of the rows out. Where rows are segments of a "
                    "recording, name the columns of their times start and end (seconds)"
                )


def _absent(utterance: Source, explained: bool) -> str:
    return f"no file {utterance.audio}" + (f"; {paths.explain(utterance.audio)}" if explained else "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _described(uid: str, utterance: Source, what: str) -> str:
    return f"{uid} ({os.path.basename(utterance.where)}: {what})" if utterance.where else f"{uid} ({what})"


def _place_audio(
    folder: Path, wanted: Mapping[str, Source], archive: Path | None, threads: int, say: Say
) -> tuple[dict[str, Placed], bool]:
    """Make the audio of each name usable: from the file on disk, else from the archive. What is nowhere is not
    returned; the second tells whether the archive is damaged."""
    on_disk = {name: row for name, row in wanted.items() if row.audio.is_file()}
    parts: dict[Path, dict[str, Span]] = {}
    for name, row in on_disk.items():
        if row.span:
            parts.setdefault(row.audio, {})[name] = row.span
    whole = {name: row.audio for name, row in on_disk.items() if not row.span}
    placed: dict[str, Placed] = {}
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda item: _place(item[1], folder / item[0], in_place=True), whole.items())
        placed |= zip(whole, found, strict=True)
        for cut in pool.map(lambda item: segments.cut(item[0], item[1], folder), parts.items()):
            placed |= cut
    names = {row.audio.name: name for name, row in wanted.items() if name not in placed}
    packed = _place_packed(folder, names, archive, say) if names and archive else {}
    return placed | (packed or {}), packed is None


def _place_packed(folder: Path, names: Mapping[str, str], archive: Path, say: Say) -> dict[str, Placed] | None:
    """Make audio of what an archive holds, by names of its files; None, and no audio, where it is damaged anywhere."""
    placed: dict[str, Placed] = {}
    try:
        for file_name, contents in archives.read(archive, frozenset(names), say):
            placed[names[file_name]] = _place(contents, folder / names[file_name], in_place=False)
    except archives.DamagedError as error:
        say(str(error))
        for made in placed.values():
            if isinstance(made, audio_files.Placed):
                made.path.unlink()
        return None
    return placed


def _place(source: Path | bytes, target: Path, in_place: bool) -> Placed:
    try:
        return audio_files.place(source, target, in_place)
    except audio_files.AudioError as error:
        return str(error)


def _write_letters(folder: Path, lang: str, state: dict[str, Any], say: Say) -> None:
    """Write the dictionary of the train split, and note letters that only dev or test have: those stay unknown."""
    state["letters"] = count_letters([folder / "train.ltr"]) if "train" in state["splits"] else {}
    state["letters_not_in_train"] = {}
    if not state["letters"]:
        say(f"{lang}: no train split, so no dictionary")
    else:
        write_dictionary(folder / "dict.ltr.txt", state["letters"])
        for split in sorted(state["splits"].keys() - {"train"}):
            if unseen := sorted(count_letters([folder / f"{split}.ltr"]).keys() - state["letters"].keys()):
                state["letters_not_in_train"][split] = unseen
                say(f"{lang} {split}: letters that train does not have, left out of the dictionary: {' '.join(unseen)}")
    _write_state(folder, state)


class _Split(Schema):
    """A split in ``prepared.json``, as far as all versions have it."""

    settings: dict[str, str]
    hours: float
    utterances: int
    left_out: dict[str, list[str]]


class _State(Schema):
    splits: dict[str, _Split]
    letters: dict[str, int] | None = None


def _read_state(folder: Path) -> dict[str, Any]:
    """Return what ``prepared.json`` of a language holds; ValueError where it is something else."""
    path = folder / PREPARED
    if not path.exists():
        return {"splits": {}}
    state: dict[str, Any] = load_json(path)
    parse(_State, state, path)
    return state


def _write_state(folder: Path, state: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PREPARED, json.dumps(state, ensure_ascii=False, indent=1) + "\n")


def _check_normalization(folder: Path, state: dict[str, Any], split: str, wanted: str) -> None:
    others = {other["settings"]["normalization"] for name, other in state["splits"].items() if name != split}
    if others - {wanted}:
        raise ValueError(
            f"{folder}: other splits were prepared with normalisation {', '.join(sorted(others))}, "
            f"{split} is now asked with {wanted}; use the same, or another output folder"
        )


def _safe_name(name: str) -> str:
    """Return a name that is one file name in any folder: no separators, no leading dots, no spaces."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "_"


def _free_name(name: str, taken: Mapping[str, object]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _relative(path: Path, folder: Path) -> str:
    """Return the path relative to the folder if it lies in it, else absolute."""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
