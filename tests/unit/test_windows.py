"""Windows over long audio, seams between them, and stretches for searches."""

import itertools

import numpy as np
import pytest

from mms_recipes.transcription import windows
from mms_recipes.transcription.windows import Frames

END = 4  # the word mark


def frames(path: list[int] | np.ndarray, emissions: bool = False) -> Frames:
    path_T = np.asarray(path)
    scores_T = -0.1 * np.arange(len(path_T), dtype=np.float32)
    return Frames(path_T, scores_T, np.eye(8, dtype=np.float32)[path_T] if emissions else None)


@pytest.mark.parametrize("num_samples", [1, 400, 640_000, 640_001, 1_000_000, 12_345_678, 172_800_000])
def test_windows_cover_all_and_overlap(num_samples: int) -> None:
    spans = windows.plan(num_samples, 640_000, 128_000, 320)
    assert spans[0][0] == 0 and spans[-1][1] == num_samples
    assert (len(spans) == 1) == (num_samples < 640_320)
    for (begin, end), (following, last) in itertools.pairwise(spans):
        assert end - following >= 128_000 and following > begin and following % 320 == 0
        assert last - following <= 640_000 + 320
    sizes = {end - begin for begin, end in spans}
    assert max(sizes) - min(sizes) < 320  # so that they share batches


def test_an_overlap_that_leaves_no_window_is_told() -> None:
    with pytest.raises(ValueError, match="windows of 1000 samples that share 900: expected windows longer than that"):
        windows.plan(5000, 1000, 900, 320)


def test_stitched_windows_of_one_path_are_that_path() -> None:
    rng = np.random.default_rng(0)
    path = np.where(rng.random(1000) < 0.6, 0, rng.integers(4, 8, 1000))
    whole = frames(path, emissions=True)
    parts = [(begin, whole.slice(begin, min(begin + 300, 1000))) for begin in range(0, 1000, 200)]
    stitched = windows.stitch(parts)
    np.testing.assert_array_equal(stitched.path_T, whole.path_T)
    np.testing.assert_array_equal(stitched.scores_T, whole.scores_T)
    np.testing.assert_array_equal(stitched.emissions_TV, whole.emissions_TV)
    np.testing.assert_array_equal(windows.stitch([(0, whole)]).path_T, path)


def test_a_seam_lies_where_both_windows_hear_nothing() -> None:
    earlier = [5] * 20 + [0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6]  # its end is garbled
    later = [7, 7, 0, 5, 0, 0, 0, 0, 0, 0, 5, 0, 6, 0, 6, 0, 0, 0, 0, 0] + [5] * 20
    assert windows.seam((0, frames(earlier)), (20, frames(later))) == 27  # the middle of frames 24 to 30
    assert windows.stitch([(0, frames(earlier)), (20, frames(later))]).units()[:4] == [5, 5, 5, 6]


def test_a_seam_without_blanks_is_halfway() -> None:
    assert windows.seam((0, frames([5] * 40)), (20, frames([5] * 40))) == 30


def test_a_path_is_cut_in_pauses_behind_a_word_mark() -> None:
    word = [5, 0, 6, 0, 7]
    path = np.array([*word, 0, 0, END, 0, 0, 0, *word, 0, END, 0, *word, 0, 0, 0, 0, 0, 0, 0, *word])
    assert windows.segments(path, END, 100) == [(0, len(path))]
    cut = windows.segments(path, END, 20)
    assert cut[0] == (0, 18) and path[17] == END
    assert [begin for begin, _ in cut[1:]] == [end for _, end in cut[:-1]] and cut[-1][1] == len(path)
    assert all(end - begin <= 20 for begin, end in cut)
    spelt = [unit for begin, end in cut for unit in frames(path[begin:end]).units()]
    assert spelt == frames(path).units()


def test_a_path_without_pauses_is_cut_all_the_same() -> None:
    cut = windows.segments(np.full(1000, 5), END, 64)
    assert cut[-1][1] == 1000 and all(0 < end - begin <= 64 for begin, end in cut)
