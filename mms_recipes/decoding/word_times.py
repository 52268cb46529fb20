"""Times and scores of the words of a hypothesis, from its best CTC path over the emissions.

A path names a unit or blank for every frame; runs of one unit are one letter. A word lasts from the first to the last
frame of its letters: CTC models tend to emit a letter in one or two frames within its sound, so words look short.

A score is exp of the mean log-probability that the model gives to the path: of a word, over the frames of its letters,
without blanks and the word mark; of an utterance, over all its frames, so that one without letters has it too. It is of
the acoustic model alone, also after a search with a language model, and no probability: `calibrated` makes one of it.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes import unicode_forms
from mms_recipes.decoding.confidence import DOUBTFUL, LETTER, WORD, Calibration, Evidence, word_features
from mms_recipes.decoding.greedy import BLANK
from mms_recipes.text import WORD_END

Floats = npt.NDArray[np.floating]
Path = npt.NDArray[np.int64]


class Word(NamedTuple):
    """A word of a hypothesis; `start` and `end` in seconds, the end not included.

    `score` and `weakest`, the probability of its least probable letter, are 0 to 1. `confidence` is the probability
    that the word is right, None where no calibration was fitted.
    """

    text: str
    start: float
    end: float
    score: float
    weakest: float = 1.0
    confidence: float | None = None


class Timing(NamedTuple):
    """The words of an utterance in order; score and evidence are None when it has no frame or no path.

    `confidence` is the share of its letters that is probably right, None where no calibration was fitted.
    """

    words: list[Word]
    score: float | None
    evidence: Evidence | None = None
    confidence: float | None = None


class _Run(NamedTuple):
    """Frames of one unit, the end not included, and its letters without a word mark."""

    letters: str
    begin: int
    end: int


def time_hypothesis(
    emissions_TV: Floats,
    units: Sequence[int],
    symbols: Sequence[str],
    frame_seconds: float,
    by_unit: bool = False,
    words: Sequence[str] | None = None,
) -> Timing:
    """Align the unit ids of a hypothesis with its log-probabilities (frames, units) and time its words.

    No words and no score when its units do not fit into the frames. See `time_path`.
    """
    path_T = align(emissions_TV, _without_outer_marks(units, symbols))
    if path_T is None:
        return Timing([], None)
    scores_T = np.take_along_axis(emissions_TV, path_T[:, None], 1)[:, 0]
    return time_path(path_T, scores_T, symbols, frame_seconds, by_unit, words)


def composed(words: Sequence[Word]) -> list[Word]:
    """Return words as people type them (unicode_forms.py); letters that are one when composed become one item."""
    found: list[Word] = []
    for word in words:
        both = unicode_forms.composed(found[-1].text + word.text) if found and len(found[-1].text) == 1 else ""
        if len(both) == len(word.text) == 1:
            one = min(found[-1], word, key=lambda item: item.score)
            found[-1] = one._replace(text=both, start=found[-1].start, end=word.end)
        else:
            found.append(word._replace(text=unicode_forms.composed(word.text)))
    return found


def _without_outer_marks(units: Sequence[int], symbols: Sequence[str]) -> Sequence[int]:
    """Return units without the marks that end no word at both ends: flashlight adds one before and one behind."""
    marks = [symbols[unit] == WORD_END for unit in units]
    begin = 1 if marks[:1] == [True] else 0
    superfluous = len(units) > begin + 1 and marks[-1] and symbols[units[-2]].endswith(WORD_END)
    return units[begin : len(units) - superfluous]


def align(emissions_TV: Floats, units: Sequence[int]) -> Path | None:
    """Return the most likely path (frames,) that reads as `units`, ids with repeats and without blanks.

    None when there is none: fewer frames than units and the blanks between repeated ones, or impossible units. Time
    and memory are O(frames x units), one byte each. Source: Viterbi over 2L+1 states (MMS paper, appendix A).
    """
    assert BLANK not in units
    repeats = sum(one == other for one, other in itertools.pairwise(units))
    if len(emissions_TV) < len(units) + repeats:
        return None
    if len(emissions_TV) == 0:
        return np.zeros(0, np.int64)
    best_T = emissions_TV.argmax(1)
    if units_of(best_T.tolist()) == list(units):  # no path is likelier: after greedy search, and often after others
        return best_T
    return _viterbi(emissions_TV, units)


def units_of(path: Iterable[int]) -> list[int]:
    """Return the unit ids that a path, one id for each frame, spells: repeats merged, no blanks."""
    return [unit for unit, _ in itertools.groupby(path) if unit != BLANK]


def _viterbi(emissions_TV: Floats, units: Sequence[int]) -> Path | None:
    """Search states blank, unit 1, blank, unit 2, ..., blank; a blank between two different units may be left out."""
    states_S = np.full(2 * len(units) + 1, BLANK)
    states_S[1::2] = units
    skipping_S = np.full(len(states_S), -np.inf)
    skipping_S[3::2][states_S[3::2] != states_S[1:-2:2]] = 0
    # two states in front that are never reached, so that every state has the three that lead to it
    score_S = np.full(len(states_S) + 2, -np.inf)
    score_S[2:4] = emissions_TV[0, states_S[:2]]
    moves_TS = np.zeros((len(emissions_TV), len(states_S)), np.int8)  # how many states further than a frame ago
    for frame in range(1, len(emissions_TV)):
        stay_S, step_S, skip_S = score_S[2:], score_S[1:-1], score_S[:-2] + skipping_S
        best_S = np.maximum(stay_S, step_S)
        moves_TS[frame] = step_S > stay_S
        moves_TS[frame][skip_S > best_S] = 2
        score_S[2:] = np.maximum(best_S, skip_S) + emissions_TV[frame, states_S]
    state = len(states_S) - 1 if score_S[-1] >= score_S[-2] else len(states_S) - 2
    if not score_S[state + 2] > -math.inf:
        return None
    found_T = np.empty(len(emissions_TV), np.int64)
    for frame in range(len(emissions_TV) - 1, -1, -1):
        found_T[frame] = state
        state -= int(moves_TS[frame, state])
    return states_S[found_T]


def time_path(
    path_T: Path,
    scores_T: Floats,
    symbols: Sequence[str],
    frame_seconds: float,
    by_unit: bool = False,
    words: Sequence[str] | None = None,
) -> Timing:
    """Return the words that a path of unit ids of `symbols` spells; `scores_T` are the log-probabilities along it.

    With `by_unit` every unit is an item of its own, for scripts without spaces; word marks are no items. `words` are
    those of a search with a lexicon: a word that the audio's end cut off is spelt by the path, but not among them.
    """
    if len(path_T) == 0:
        return Timing([], None)
    spelt = _spelt(path_T, symbols)
    if words is not None:
        spelt = spelt[: len(words)]
    items = [[run] for runs in spelt for run in runs] if by_unit else spelt
    timed = [_word(runs, scores_T, frame_seconds) for runs in items]
    if words is not None and not by_unit and len(words) == len(timed):  # a lexicon may spell them otherwise
        timed = [item._replace(text=word) for item, word in zip(timed, words, strict=True)]
    return Timing(timed, math.exp(scores_T.mean()), _evidence(path_T, scores_T, spelt, frame_seconds))


def calibrated(timing: Timing, calibration: Calibration | None, by_unit: bool) -> Timing:
    """Return a timing with the confidence of the utterance and of its words; as it is without a calibration."""
    if calibration is None or timing.evidence is None:
        return timing
    sure = calibration.of_utterance(timing.evidence)
    regression = calibration.items.get(LETTER if by_unit else WORD)
    words = timing.words
    if regression and words:
        features_NF = np.stack([word_features(word.score, word.weakest, len(word.text), sure) for word in words])
        words = [word._replace(confidence=p) for word, p in zip(words, regression(features_NF).tolist(), strict=True)]
    return timing._replace(words=words, confidence=sure)


def _evidence(path_T: Path, scores_T: Floats, spelt: Sequence[Sequence[_Run]], frame_seconds: float) -> Evidence:
    best = [float(scores_T[run.begin : run.end].max()) for runs in spelt for run in runs]
    inside = [scores_T[run.begin : run.end] for runs in spelt for run in runs]
    return Evidence(
        seconds=len(path_T) * frame_seconds,
        frames=len(path_T),
        score=float(scores_T.sum(dtype=np.float64)),
        blank_score=float(scores_T[path_T == BLANK].sum(dtype=np.float64)),
        letters=len(best),
        letter_frames=sum(map(len, inside)),
        letter_score=float(sum(part.sum(dtype=np.float64) for part in inside)),
        doubtful=sum(score < math.log(DOUBTFUL) for score in best),
    )


def _spelt(path_T: Path, symbols: Sequence[str]) -> list[list[_Run]]:
    """Return the runs of each word; a last word without its mark counts as whole."""
    begins = np.flatnonzero(np.diff(path_T, prepend=-1))
    ends = np.append(begins[1:], len(path_T)).tolist()
    spelt: list[list[_Run]] = [[]]
    for begin, end in zip(begins.tolist(), ends, strict=True):
        if path_T[begin] == BLANK:
            continue
        symbol = symbols[path_T[begin]]
        if letters := symbol.replace(WORD_END, ""):
            spelt[-1].append(_Run(letters, begin, end))
        if spelt[-1] and WORD_END in symbol:
            spelt.append([])
    return [runs for runs in spelt if runs]


def _word(runs: list[_Run], scores_T: Floats, frame_seconds: float) -> Word:
    scores = np.concatenate([scores_T[run.begin : run.end] for run in runs])
    text = "".join(run.letters for run in runs)
    weakest = min(float(scores_T[run.begin : run.end].max()) for run in runs)
    begin, end = runs[0].begin * frame_seconds, runs[-1].end * frame_seconds
    return Word(text, begin, end, math.exp(scores.mean()), math.exp(weakest))
