"""What an evaluation wrote, read back: scores.json checked by type, the tables beside it line by line.

Whoever shows these files gets numbers where numbers belong; texts may hold anything and are escaped where they are
shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from mms_recipes import parsing
from mms_recipes.lid.scores import MICRO
from mms_recipes.metrics import MACRO

AGAIN = "evaluate again into a folder of its own"

Count = Annotated[int, pydantic.Field(ge=0)]
Some = Annotated[int, pydantic.Field(gt=0)]
Rate = Annotated[float, pydantic.Field(ge=0)]
Percent = Annotated[float, pydantic.Field(ge=0, le=100.001)]  # means of 100 may round to a little more
Share = Annotated[float, pydantic.Field(ge=0, le=1.00001)]


class _Mean(parsing.Schema):
    """The means over languages: rates in percent with their 95 % intervals."""

    utterances: Some
    hours: Rate
    headline: Rate
    headline_low: Rate
    headline_high: Rate
    wer: Rate
    wer_low: Rate
    wer_high: Rate
    cer: Rate
    cer_low: Rate
    cer_high: Rate


class _Language(_Mean):
    lang: str
    headline_metric: Literal["wer", "cer"]
    reference_words: Count
    word_substitutions: Count
    word_deletions: Count
    word_insertions: Count
    reference_characters: Count
    character_substitutions: Count
    character_deletions: Count
    character_insertions: Count


class _PaperRate(parsing.Schema):
    system: str
    lang: str
    rate: Rate


class _Rules(parsing.Schema):
    """What is said of every benchmark."""

    title: str
    source: str
    languages: Some
    scored: Some
    differs: list[str]
    unknown: list[str]


class _Benchmark(_Rules):
    split: str
    rule: str
    text: str
    paper: list[_PaperRate]


class _Settings(parsing.Schema):
    name: str | None = None
    split: str | None = None
    count_space: bool | None = None


class _Bin(parsing.Schema):
    utterances: Some
    confidence: Share
    accuracy: Share


class _Confidence(parsing.Schema):
    """How good the confidences are, see report/scores.py."""

    utterances: Some
    bad_cer: Percent
    bad: Count
    ranking: Share | None
    error: Percent
    bins: list[_Bin]


class _Recognition(parsing.Schema):
    """scores.json of speech recognition."""

    settings: _Settings
    languages: Annotated[dict[str, _Language], pydantic.Field(min_length=1)]
    macro: _Mean
    benchmark: _Benchmark | None = None
    confidence: _Confidence | None = None


class _Accuracies(parsing.Schema):
    utterances: Some
    hours: Rate
    top1: Percent
    top1_low: Percent
    top1_high: Percent
    top3: Percent
    top5: Percent


class _Macro(_Accuracies):
    lang: Literal["macro"]


class _Micro(_Accuracies):
    lang: Literal["micro"]


class _Spoken(_Accuracies):
    lang: str
    known: bool
    wanted: str = pydantic.Field(alias="class")


class _Crops(parsing.Schema):
    """Accuracies on crops of a length; None where no utterance is as long."""

    seconds: Rate
    utterances: Count
    languages: Count
    crop_macro: Percent | None
    crop_micro: Percent | None
    whole_macro: Percent | None
    whole_micro: Percent | None


class _Fitted(parsing.Schema):
    temperature: Annotated[float, pydantic.Field(gt=0)]
    utterances: Some
    split: str


class _Errors(parsing.Schema):
    raw_error: Percent
    calibrated_error: Percent


class _Calibration(_Errors):
    raw_bins: list[_Bin]
    calibrated_bins: list[_Bin]
    temperature: _Fitted | None


class _Confusion(parsing.Schema):
    lang: str
    answer: str
    utterances: Some
    percent: Percent


class _Corpus(parsing.Schema):
    languages: Annotated[dict[str, _Spoken], pydantic.Field(min_length=1)]
    macro: _Macro
    micro: _Micro
    calibration: _Errors


class _PaperAccuracy(parsing.Schema):
    system: str
    accuracy: Percent
    alike: bool


class _LidBenchmark(_Rules):
    paper: list[_PaperAccuracy]


class _LidSettings(parsing.Schema):
    name: str | None = None
    split: str
    checkpoint: str
    classes: Some
    classes_of_the_model: Some


class _Identification(parsing.Schema):
    """scores.json of language identification."""

    settings: _LidSettings
    languages: Annotated[dict[str, _Spoken], pydantic.Field(min_length=1)]
    macro: _Macro
    micro: _Micro
    lengths: list[_Crops]
    calibration: _Calibration
    confusions: list[_Confusion]
    answers: dict[str, dict[str, Count]]
    corpora: dict[str, _Corpus] = pydantic.Field(default_factory=dict)
    benchmark: _LidBenchmark | None = None


def read_scores(path: Path) -> dict[str, Any]:
    """Return a scores.json, of recognition or identification, rates in percent.

    Raises FileNotFoundError where there is none, ValueError (file, key, what was found and expected) where it is not
    what evaluate writes.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no scores; run mms_recipes.evaluate first")
    document: dict[str, Any] = parsing.read_json(dict[str, Any], path)
    is_lid = MICRO in document
    try:
        read: Any = parsing.parse(_Identification if is_lid else _Recognition, document, path)
    except ValueError as error:
        raise ValueError(f"{error}; {AGAIN}") from None
    for kind, rows in {"": read.languages, **{name: one.languages for name, one in _corpora(read).items()}}.items():
        _check_names(path, kind, rows)
    if is_lid:
        for place, lang in [("answers", one) for one in read.languages if one not in read.answers] + [
            ("languages", one.lang) for one in read.confusions if one.lang not in read.languages
        ]:
            raise ValueError(f"{path}: {place}: no {parsing.shown(lang)}, which is elsewhere in the file; {AGAIN}")
    return document


def _corpora(read: Any) -> Mapping[str, _Corpus]:
    return read.corpora if isinstance(read, _Identification) else {}


def _check_names(path: Path, corpus: str, rows: Mapping[str, Any]) -> None:
    """Raise ValueError unless each row is of the language that it is filed under, and none is called as the means."""
    where = f"corpora.{corpus}.languages" if corpus else "languages"
    for lang, row in rows.items():
        if row.lang != lang or lang in (MACRO, MICRO):
            raise ValueError(
                f"{path}: {where}: found the row of {parsing.shown(row.lang)} under {parsing.shown(lang)}; {AGAIN}"
            )


def read_table(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield number and cells by column of each line of a table, whose header has `columns` and maybe others.

    Raises FileNotFoundError, or ValueError (file:line): another header, a line that does not fit it, not UTF-8.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        said = "no such file, though evaluate writes it beside scores.json"
        raise FileNotFoundError(f"{path}: {said}; {AGAIN}") from None
    with file:
        header: list[str] = []
        for number, line in enumerate(file, start=1):
            try:
                cells = line.removesuffix(b"\n").decode("utf-8").split("\t")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}:{number}: not UTF-8 ({error.reason}); {AGAIN}") from None
            if not header:
                header = cells
                if missing := [name for name in columns if header.count(name) != 1]:
                    found = parsing.shown(", ".join(header))
                    raise ValueError(f"{path}:1: no column {', '.join(missing)} (found {found}); {AGAIN}")
            elif len(cells) != len(header):
                raise ValueError(f"{path}:{number}: {len(cells)} cells, expected {len(header)}; {AGAIN}")
            else:
                yield number, dict(zip(header, cells, strict=True))
    if not header:
        raise ValueError(f"{path}: empty; {AGAIN}")
