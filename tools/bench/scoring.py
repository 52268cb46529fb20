"""Measure counting errors: python tools/bench/scoring.py. Needs jiwer (extra [test]).

Random utterances of 20 words of 2 to 9 letters, one word in seven wrong, as evaluate counts them (words, then
characters) and as jiwer does, utterance by utterance. Prints CPU seconds on one core and whether all counts are equal.
"""

import argparse
import random
import string
import time
from collections.abc import Callable, Iterable

import jiwer

from mms_recipes import metrics

Counts = tuple[int, int, int]
Count = Callable[[str, str], Counts]
WORDS, WRONG, VOCABULARY = 20, 1 / 7, 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000, help="(default: %(default)s)")
    args = parser.parse_args()
    pairs = list(utterances(args.utterances))
    print(f"{len(pairs):,} utterances of {WORDS} words")
    print("| counted | ours, s | jiwer, s | equal counts |\n|---|---:|---:|---:|")
    contestants: dict[str, tuple[Count, Count]] = {
        "words": (our(metrics.word_errors), their(jiwer.process_words)),
        "characters": (our(count_characters), their(jiwer.process_characters)),
    }
    for name, (mine, theirs) in contestants.items():
        seconds, counts = measure(mine, pairs)
        other_seconds, other_counts = measure(theirs, pairs)
        equal = sum(one == other for one, other in zip(counts, other_counts, strict=True))
        print(f"| {name} | {seconds:.2f} | {other_seconds:.2f} | {equal:,} |", flush=True)


def utterances(count: int) -> Iterable[tuple[str, str]]:
    """Yield references and hypotheses, the same every time; a wrong word is another one, or none, or two."""
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9))) for _ in range(VOCABULARY)]
    for _ in range(count):
        reference = rng.choices(vocabulary, k=WORDS)
        said = [rng.choices(vocabulary, k=rng.randint(0, 2)) if rng.random() < WRONG else [w] for w in reference]
        yield " ".join(reference), " ".join(word for words in said for word in words)


def count_characters(reference: str, hypothesis: str) -> metrics.ErrorCounts:
    return metrics.character_errors(reference, hypothesis, count_space=True)  # as jiwer counts them


def our(count: Callable[[str, str], metrics.ErrorCounts]) -> Count:
    def counts(reference: str, hypothesis: str) -> Counts:
        found = count(reference, hypothesis)
        return found.substitutions, found.deletions, found.insertions

    return counts


def their(process: Callable[[str, str], jiwer.WordOutput | jiwer.CharacterOutput]) -> Count:
    def counts(reference: str, hypothesis: str) -> Counts:
        found = process(reference, hypothesis)
        return found.substitutions, found.deletions, found.insertions

    return counts


def measure(count: Count, pairs: list[tuple[str, str]]) -> tuple[float, list[Counts]]:
    start = time.process_time()
    counts = [count(reference, hypothesis) for reference, hypothesis in pairs]
    return time.process_time() - start, counts


if __name__ == "__main__":
    main()
