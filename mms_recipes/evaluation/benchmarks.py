"""Benchmarks as the MMS paper scores them: which languages, which rate, which rules for the text, and its numbers.

Paper: https://arxiv.org/abs/2305.13516, version 1; its numbers that are known here are in paper_scores.tsv. What an
evaluation does otherwise than the paper, and what the paper does not tell, is said wherever both stand side by side.
"""

import csv
import dataclasses
import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mms_recipes import languages, metrics
from mms_recipes.corpora import prepared
from mms_recipes.manifest import PREPARED
from mms_recipes.metrics import MACRO
from mms_recipes.report.scores import UtteranceScore
from mms_recipes.unicode_forms import in_form_of

PAPER_TABLE = Path(__file__).with_name("paper_scores.tsv")
PAPER_COLUMNS = ("protocol", "split", "system", "lang", "rate", "source")
UNPROCESSED = "none"  # the normalisation that leaves references as the corpus has them
WHISPER = "Whisper's normaliser on reference and hypothesis (English for eng, basic elsewhere)"

TextRules = Callable[[str], str]


@dataclass(frozen=True)
class Protocol:
    """One way to score FLEURS; `langs` is a set of languages.tsv, `splits` are those that the paper has numbers of."""

    name: str
    title: str
    langs: str
    splits: tuple[str, ...]
    by_characters: frozenset[str] | None  # languages with CER as their headline; None: all of them
    whisper: bool  # whether texts go through Whisper's normaliser
    unprocessed: bool  # whether the references are known to be those of FLEURS, before that
    source: str
    unknown: tuple[str, ...]  # of the paper's rules

    def metric(self, lang: str) -> Literal["wer", "cer"]:
        """Return which rate of a language counts."""
        return "cer" if self.by_characters is None or lang in self.by_characters else "wer"

    @property
    def rule(self) -> str:
        """Say which rate counts, in words."""
        if self.by_characters is None:
            return "CER in every language"
        return f"WER, CER in {', '.join(sorted(self.by_characters))}"


_SPACES = "whether the paper's CER counts the spaces between words"
_COLUMN = "which column of FLEURS its references are, raw_transcription or transcription"
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "fleurs102", "FLEURS-102", "asr_fl102", ("dev", "test"), None, False, True,
            "sections 5.3.2 and 5.4, tables 4 and A3", (_SPACES, _COLUMN),
        ),
        Protocol(
            "fleurs61", "FLEURS-61", "fleurs61", ("dev",), None, False, False,
            "section 5.2, figures 11 and 12", (_SPACES, _COLUMN, "what was done to them"),
        ),
        Protocol(
            "fleurs54", "FLEURS-54", "fleurs54", ("dev", "test"), frozenset(("khm", "lao", "mya", "tha")), True, True,
            "section 5.3.1, tables 3 and A2", (_COLUMN,),
        ),
    )
}  # fmt: skip


def find(name: str) -> Protocol:
    """Return the protocol of this name; ValueError with the names that there are."""
    if name not in PROTOCOLS:
        raise ValueError(f"protocol is {name!r}; choose {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def choose_languages(protocol: Protocol, data: Path, split: str, asked: Sequence[str]) -> list[str]:
    """Return the languages to score: those asked for (ids and sets), else all of the protocol.

    Raises ValueError naming every language of the protocol that `data` lacks, unless others were asked for, and every
    language asked for that the protocol lacks.
    """
    every = languages.resolve(protocol.langs)
    chosen = languages.resolve(asked) if asked else every
    if foreign := [lang for lang in chosen if lang not in every]:
        raise ValueError(
            f"{protocol.title} does not have {', '.join(foreign)}; leave them out of langs, or score them without "
            "protocol=..."
        )
    there = [lang for lang in chosen if (data / lang / f"{split}.tsv").is_file()]
    missing = [lang for lang in chosen if lang not in there]
    if missing:
        narrow = f"narrow it: langs=[{','.join(there)}]" if there else f"look whether {data} is the right folder"
        raise ValueError(
            f"{protocol.title}: {data} has no {split}.tsv of {len(missing)} of the {len(chosen)} languages to score: "
            f"{', '.join(missing)}; prepare them (tools/prepare_fleurs.py), or {narrow}"
        )
    return chosen


# ---- text rules


def text_rules(protocol: Protocol, lang: str) -> TextRules:
    """Return what is done to the words of reference and hypothesis before errors are counted.

    Raises ValueError when Whisper's normaliser is asked for and not installed.
    """
    return _whisper(lang == "eng") if protocol.whisper else _as_it_is


def _as_it_is(text: str) -> str:
    return text


@functools.cache
def _whisper(english: bool) -> TextRules:
    """Return Whisper's normaliser; the basic one makes a space of every mark, vowel signs of Indic scripts included."""
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error}: fleurs54 is scored with Whisper's normaliser; pip install '.[benchmark]'"
        ) from error
    rules: TextRules = EnglishTextNormalizer() if english else BasicTextNormalizer()
    return lambda text: rules(text).strip()


def check_references(protocol: Protocol, references: Mapping[str, Iterable[str]]) -> None:
    """Raise ValueError naming the languages whose references have no word left under the text rules of a protocol."""
    empty = []
    for lang, lines in references.items():
        rules = text_rules(protocol, lang)
        if not any(rules(words).strip() for words in lines):
            empty.append(lang)
    if empty:
        raise ValueError(
            f"{protocol.title}: no reference of {', '.join(empty)} has a word after the rules of the protocol; prepare "
            "them again, or leave them out with langs=[...]"
        )


def rescore(score: UtteranceScore, protocol: Protocol, count_space: bool) -> UtteranceScore:
    """Return the score of an utterance under the text rules of a protocol."""
    if not protocol.whisper:
        return score
    rules = text_rules(protocol, score.lang)
    reference = rules(score.reference)
    hypothesis = in_form_of(reference, rules(score.hypothesis))
    return dataclasses.replace(
        score,
        reference=reference,
        hypothesis=hypothesis,
        words=metrics.word_errors(reference, hypothesis),
        characters=metrics.character_errors(reference, hypothesis, count_space=count_space),
    )


# ---- beside the paper


def document(protocol: Protocol, data: Path, split: str, langs: Sequence[str], count_space: bool) -> dict[str, Any]:
    """Return what scores.json says of a benchmark: its rules, what is otherwise than in the paper, its numbers."""
    numbers = [row for row in paper_scores() if (row["protocol"], row["split"]) == (protocol.name, split)]
    return described(protocol, langs, differences(protocol, data, split, langs, count_space)) | {
        "split": split,
        "rule": protocol.rule,
        "text": WHISPER if protocol.whisper else "as the manifests have it",
        "paper": [
            {"system": row["system"], "lang": row["lang"], "rate": float(row["rate"]), "source": row["source"]}
            for row in numbers
            if row["lang"] in (MACRO, *langs)
        ],
    }


def described(protocol: Protocol, langs: Sequence[str], differs: Sequence[str]) -> dict[str, Any]:
    """Return what is said of every benchmark: `langs` were scored, and `differs` is not as in the paper."""
    return {
        "protocol": protocol.name,
        "title": protocol.title,
        "source": protocol.source,
        "languages": len(languages.resolve(protocol.langs)),
        "scored": len(langs),
        "differs": list(differs),
        "unknown": [*protocol.unknown, "whether the manifests hold the whole of FLEURS"],
    }


def differences(protocol: Protocol, data: Path, split: str, langs: Sequence[str], count_space: bool) -> list[str]:
    """Say what an evaluation does otherwise than the paper, as far as the manifests tell; none: like with like."""
    found = []
    every = languages.resolve(protocol.langs)
    if len(langs) < len(every):
        found.append(f"{len(langs)} of its {len(every)} languages were scored")
    if split not in protocol.splits:
        found.append(f"{split} was scored, the paper has {' and '.join(protocol.splits)}")
    if protocol.whisper and count_space:
        found.append("spaces are counted in CER, which Whisper's rules do not do")
    return found + _references(protocol, data, split, langs)


def told_of_forms(respelt: Mapping[str, int], total: int) -> str:
    """Say that hypotheses were in another Unicode form than their references; `respelt` are their numbers by lang."""
    listed = ", ".join(f"{lang} {number:,}" for lang, number in sorted(respelt.items()))
    return (
        f"{sum(respelt.values()):,} of {total:,} hypotheses were in another Unicode form than their references "
        f"(letters composed or taken apart) and are counted in the references' form: {listed}"
    )


def _references(protocol: Protocol, data: Path, split: str, langs: Sequence[str]) -> list[str]:
    """Say which references are not those of the corpus, and which are missing, from prepared.json."""
    known = prepared.read(data)
    by_rule: defaultdict[str, list[str]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for lang in langs:
        by_rule[known.split(lang, split).normalization].append(lang)
        left_out[lang] += known.split(lang, split).num_left_out
    found = []
    for rule, of in by_rule.items() if protocol.unprocessed else ():
        which = "the references" if len(of) == len(langs) else f"the references of {', '.join(of)}"
        if not rule:
            found.append(f"{data / PREPARED} does not tell how {which} were normalised")
        elif rule != UNPROCESSED:
            found.append(
                f"{which} were normalised ({rule}), those of the paper were not; prepare_fleurs.py "
                f"--normalization {UNPROCESSED} keeps them"
            )
    if short := [f"{lang} {number:,}" for lang, number in left_out.items() if number]:
        found.append(f"utterances were left out in preparation: {', '.join(short)}")
    return found


@functools.cache
def paper_scores() -> tuple[dict[str, str], ...]:
    """Return the rows of paper_scores.tsv: percent, of a language or of the mean over all (macro).

    Raises ValueError (file:line) for a row that cannot be.
    """
    with PAPER_TABLE.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    if tuple(header) != PAPER_COLUMNS:
        raise ValueError(f"{PAPER_TABLE}:1: header is {header}, expected {list(PAPER_COLUMNS)} separated by tabs")
    rows = []
    for number, cells in enumerate(lines, start=2):
        row = dict(zip(PAPER_COLUMNS, cells, strict=False))
        if len(cells) != len(PAPER_COLUMNS) or row["protocol"] not in PROTOCOLS or not _is_rate(row["rate"]):
            raise ValueError(f"{PAPER_TABLE}:{number}: found {cells}, expected {', '.join(PAPER_COLUMNS)}")
        rows.append(row)
    return tuple(rows)


def _is_rate(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
