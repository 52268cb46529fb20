"""Scores of an evaluation that was split over jobs by language: one file for each shard, put together with proof.

OUT/shards/<shard>.json (shard_files.py) holds the utterances of a shard with their errors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic

from mms_recipes import parsing, shard_files
from mms_recipes.metrics import ErrorCounts
from mms_recipes.report.reading import Count, Rate, Share
from mms_recipes.report.scores import UtteranceScore

OWN = (*shard_files.OWN, "decoding")  # settings in which shards may differ: decoding holds each language's weights


@dataclass(frozen=True)
class Shard:
    """What one job scored. `expected` is the number of utterances of each language's manifest, of all shards."""

    settings: Mapping[str, Any]
    expected: Mapping[str, int]
    scores: Sequence[UtteranceScore]
    nbest: Sequence[str]  # lines of nbest.tsv


def write(out: Path, shard: Shard) -> Path:
    """Write what a job scored below the folder of the whole evaluation; return the file."""
    return shard_files.write(out, asdict(shard))


def read(out: Path) -> Shard:
    """Put the shards of an evaluation together.

    Raises FileNotFoundError naming the shards that are missing, ValueError when they are of different evaluations.
    """
    shards = [_parse(out, document) for document in shard_files.read(out, OWN)]
    first = shards[0]
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


class _Counts(parsing.Schema):
    substitutions: Count
    deletions: Count
    insertions: Count
    reference_length: Count


class _Score(parsing.Schema):
    uid: str
    lang: str
    reference: str
    hypothesis: str
    words: _Counts
    characters: _Counts
    seconds: Rate
    score: Share | None = None
    confidence: Share | None = None
    word_times: list[Annotated[tuple[str, Rate, Rate, Share, Share | None], pydantic.Strict(False)]] | None = None
    respelt: bool = False


class _Weighted(parsing.Schema):
    weights: dict[str, dict[str, float]]


class _Settings(parsing.Schema):
    name: str
    data: str
    split: str
    count_space: bool
    protocol: str | None
    decoding: str | _Weighted


class _Document(parsing.Schema):
    settings: _Settings
    expected: dict[str, Count]
    scores: list[_Score]
    nbest: list[str]


def _parse(out: Path, fields: dict[str, Any]) -> Shard:
    path = out / shard_files.FOLDER / f"{fields['settings']['shard']}.json"
    try:
        read = parsing.parse(_Document, fields, path)
    except ValueError as error:
        said = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not the scores of a shard ({said}); delete it and evaluate it again") from None
    return Shard(fields["settings"], read.expected, [_score(one) for one in read.scores], read.nbest)


def _score(read: _Score) -> UtteranceScore:
    counts = {key: ErrorCounts(**dict(getattr(read, key))) for key in ("words", "characters")}
    return UtteranceScore(**dict(read) | counts)
