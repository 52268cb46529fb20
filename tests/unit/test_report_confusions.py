"""Confusions add up to the errors of the scores, and name what stood for what."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mms_recipes import metrics
from mms_recipes.report import confusions, page
from mms_recipes.report.runs import read_runs
from tests.unit.evaluations import write_runs

TEXT = st.text("abc", max_size=12)


def test_pairs() -> None:
    counted = confusions.count_confusions([("kitten", "sitting"), ("ab", "ab"), ("", "x"), ("y", "")])
    assert counted == {("k", "s"): 1, ("e", "i"): 1, ("", "g"): 1, ("", "x"): 1, ("y", ""): 1}
    words = confusions.count_confusions([(["a", "dog"], ["the", "dog"]), (["a"], ["the"])])
    assert words == {("a", "the"): 2}


@given(TEXT, TEXT)
def test_confusions_are_the_errors_of_the_alignment(reference: str, hypothesis: str) -> None:
    steps = metrics.align(reference, hypothesis)
    expected = Counter((step.reference, step.hypothesis) for step in steps if step.operation != "equal")
    assert confusions.count_confusions([(reference, hypothesis)]) == expected


@pytest.mark.parametrize("count_space", [False, True])
def test_confusions_add_up_to_the_scores(tmp_path: Path, count_space: bool) -> None:
    runs = read_runs(write_runs(tmp_path, count_space))
    for lang in runs[0].languages:
        counters = page.count_confusions(runs, lang)
        for unit, name in (("letters", "character"), ("words", "word")):
            if (unit, lang) == ("words", "jpn"):
                assert counters[unit] == [Counter(), Counter()]  # a phrase is one word
                continue
            for run, counter in zip(runs, counters[unit], strict=True):
                kinds: Counter[str] = Counter()
                for confusion, count in counter.items():
                    kinds[confusions.kind(confusion)] += count
                expected = {
                    kind: run.languages[lang][f"{name}_{kind}"] for kind in ("substitutions", "deletions", "insertions")
                }
                assert {kind: kinds[kind] for kind in expected} == expected


def test_most_frequent_over_all_runs() -> None:
    one = Counter({("a", "b"): 3, ("c", "d"): 2, ("e", ""): 9, ("", "f"): 9})
    two = Counter({("c", "d"): 2, ("g", "h"): 1})
    assert confusions.most_frequent([one, two], "substitutions", 2) == [(("c", "d"), [2, 2]), (("a", "b"), [3, 0])]
    assert confusions.most_frequent([one, two], "deletions", 2) == [(("e", ""), [9, 0])]
