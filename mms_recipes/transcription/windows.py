"""Long audio in overlapping windows, and what the model said of each stitched to one whole.

wav2vec 2.0's convolutions see 25 ms and its positions 2.6 s, but its attention sees all of its input, so the frames of
a window are those of the whole only in so far as the model does not listen further. Windows therefore share some
seconds, and are joined where both hear nothing: in the longest stretch of blanks that they agree on.

Shapes: T frames, V letters.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mms_recipes.decoding.greedy import BLANK
from mms_recipes.decoding.word_times import units_of

EDGE = 8  # a seam keeps this part of the overlap from either window's edge, where it hears one side only


@dataclass(frozen=True)
class Frames:
    """The best path over some frames: unit ids (T,) and their log-probabilities (T,); all emissions (T, V) if kept."""

    path_T: npt.NDArray[np.int64]
    scores_T: npt.NDArray[np.float32]
    emissions_TV: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.path_T)

    def units(self) -> list[int]:
        """Return the unit ids that the path spells: repeats merged, no blanks."""
        return units_of(self.path_T.tolist())

    def slice(self, begin: int, end: int) -> "Frames":
        """Return the frames from begin to end, the end not included."""
        emissions_TV = None if self.emissions_TV is None else self.emissions_TV[begin:end]
        return Frames(self.path_T[begin:end], self.scores_T[begin:end], emissions_TV)


def plan(num_samples: int, window: int, overlap: int, stride: int) -> list[tuple[int, int]]:
    """Return begin and end of windows that cover `num_samples`, all of about `window` samples, one if that is enough.

    Neighbours share at least `overlap` samples; begins are multiples of `stride`, so that frames fall where they would
    in the whole.
    """
    if not 0 <= overlap < window - stride:
        raise ValueError(f"windows of {window} samples that share {overlap}: expected windows longer than that")
    if num_samples < window + stride:
        return [(0, num_samples)]
    steps = -(-(num_samples - window) // (window - overlap - stride))
    begins = [step * (num_samples - window) // steps // stride * stride for step in range(steps + 1)]
    return [(begin, begin + window) for begin in begins[:-1]] + [(begins[-1], num_samples)]


def stitch(parts: Sequence[tuple[int, Frames]]) -> Frames:
    """Join windows, each with the number of its first frame in the whole, in order."""
    ends = [*(seam(one, other) for one, other in itertools.pairwise(parts)), parts[-1][0] + len(parts[-1][1])]
    pieces, begin = [], 0
    for (first, frames), end in zip(parts, ends, strict=True):
        pieces.append(frames.slice(begin - first, end - first))
        begin = end
    if len(pieces) == 1:
        return pieces[0]
    kept = [piece.emissions_TV for piece in pieces if piece.emissions_TV is not None]
    return Frames(
        np.concatenate([piece.path_T for piece in pieces]),
        np.concatenate([piece.scores_T for piece in pieces]),
        np.concatenate(kept) if kept else None,
    )


def seam(one: tuple[int, Frames], other: tuple[int, Frames]) -> int:
    """Return the frame of the whole where the later of two windows takes over.

    It is in the middle of the longest run of blanks that both have in what they share; where there is none, halfway.
    """
    (first, earlier), (begin, later) = one, other
    end = first + len(earlier)
    edge = (end - begin) // EDGE
    quiet_T = (earlier.path_T[begin - first :] == BLANK) & (later.path_T[: end - begin] == BLANK)
    runs = _runs(quiet_T[edge : end - begin - edge])
    if not runs:
        return (begin + end) // 2
    middle = (begin + end) / 2 - begin - edge
    start, stop = max(runs, key=lambda run: (run[1] - run[0], -abs(sum(run) / 2 - middle)))
    return begin + edge + (start + stop) // 2


def segments(path_T: npt.NDArray[np.int64], word_end: int, longest: int) -> list[tuple[int, int]]:
    """Cut a path into stretches of at most `longest` frames, for searches whose memory grows with the length.

    A cut is made in the second half of a stretch, in its longest pause (blanks and word marks), behind a word mark if
    there is one: a search with a lexicon forgets a word whose mark it does not hear.
    """
    found, begin = [], 0
    while len(path_T) - begin > longest:
        low = begin + longest // 2
        path = path_T[low : begin + longest]
        runs = _runs((path == BLANK) | (path == word_end)) or [(len(path) - 1, len(path))]
        start, stop = max(runs, key=lambda run: (word_end in path[slice(*run)], run[1] - run[0]))
        marks = np.flatnonzero(path[start:stop] == word_end)
        cut = low + start + (int(marks[-1]) + 1 if len(marks) else max(1, (stop - start) // 2))
        found.append((begin, cut))
        begin = cut
    return [*found, (begin, len(path_T))]


def _runs(chosen_T: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return begin and end of the stretches of True."""
    edges = np.flatnonzero(np.diff(chosen_T.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
