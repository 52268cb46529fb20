"""Scores of an evaluation that was split over jobs by language: one file for each shard, put together with proof.

OUT/shards/<shard>.json holds the utterances of a shard with their errors, and what all shards must agree on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mms_recipes import manifest
from mms_recipes.metrics import ErrorCounts
from mms_recipes.report import UtteranceScore

FOLDER = "shards"
OWN = ("shard", "decoding")  # settings in which shards may differ: decoding holds each language's weights


@dataclass(frozen=True)
class Shard:
    """What one job scored. `expected` is the number of utterances of each language's manifest, of all shards."""

    settings: Mapping[str, Any]
    expected: Mapping[str, int]
    scores: Sequence[UtteranceScore]
    nbest: Sequence[str]  # lines of nbest.tsv


def write(out: Path, shard: Shard) -> Path:
    """Write what a job scored below the folder of the whole evaluation; return the file."""
    path = out / FOLDER / f"{shard.settings['shard']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(path, json.dumps(asdict(shard), ensure_ascii=False) + "\n")
    return path


def read(out: Path) -> Shard:
    """Put the shards of an evaluation together.

    Raises FileNotFoundError naming the shards that are missing, ValueError when they are of different evaluations.
    """
    paths = sorted((out / FOLDER).glob("*.json"), key=lambda path: path.name)
    if not paths:
        raise FileNotFoundError(f"{out / FOLDER}: no scores; run mms_recipes.evaluate with num_shards and shard first")
    shards = [_parse(path) for path in paths]
    first = shards[0]
    for path, other in zip(paths[1:], shards[1:], strict=True):
        for key in sorted((first.settings.keys() | other.settings.keys()) - {*OWN}):
            values = [one.settings.get(key) for one in (first, other)]
            if values[0] != values[1]:
                raise ValueError(f"{path}: {key} is {values[1]}, but {values[0]} in {paths[0]}: evaluate it again")
        if other.expected != first.expected:
            raise ValueError(f"{path}: made of other manifests than {paths[0]}; evaluate both again")
    num_shards = int(first.settings["num_shards"])
    there = {int(one.settings["shard"]) for one in shards}
    if missing := sorted({*range(num_shards)} - there):
        raise FileNotFoundError(
            f"{out / FOLDER}: {len(missing)} of {num_shards} shards missing: {', '.join(map(str, missing[:20]))}; "
            "evaluate with shard=... of each first"
        )
    decoding = _together([one.settings["decoding"] for one in shards])
    settings = {key: value for key, value in first.settings.items() if key not in ("shard", "num_shards")}
    return Shard(
        settings=settings | {"decoding": decoding},
        expected=first.expected,
        scores=[score for one in shards for score in one.scores],
        nbest=[line for one in shards for line in one.nbest],
    )


def _together(decodings: Sequence[Any]) -> Any:
    """The decoding of all shards; of beam search the weights of all languages."""
    if not isinstance(decodings[0], dict):
        return decodings[0]
    weights = {lang: used for one in decodings for lang, used in one["weights"].items()}
    return decodings[0] | {"weights": dict(sorted(weights.items()))}


def _parse(path: Path) -> Shard:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return Shard(**fields | {"scores": [_score(one) for one in fields["scores"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not the scores of a shard ({error!r}); delete it and evaluate it again") from None


def _score(fields: dict[str, Any]) -> UtteranceScore:
    counts = {key: ErrorCounts(**fields[key]) for key in ("words", "characters")}
    times = fields["word_times"] and [tuple(one) for one in fields["word_times"]]
    return UtteranceScore(**fields | counts | {"word_times": times})
