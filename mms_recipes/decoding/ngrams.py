"""N-gram models of a language: kind, order and pruning of the MMS paper (appendix B), vocabulary, lexicon."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mms_recipes import languages
from mms_recipes.decoding.lm_text import Encode, Kind
from mms_recipes.text import WORD_END

VOCABULARY = 250_000  # most frequent words
GB = 1_000_000_000
WORD_ORDER, LETTER_ORDER, TRANSCRIPT_LETTER_ORDER = 5, 20, 15
LETTER_PRUNING = (0, 0, 0, 0, 0, 1, 1, 1, 2, 3)
SHOWN = 10  # unusable words in a message


@dataclass(frozen=True)
class Recipe:
    """How lmplz makes a model.

    `pruning`: n-grams that occur at most so often are left out, for each order, the last for all above; empty: none is.
    `discount_fallback`: fixed discounts for orders that have too few rare n-grams to estimate them from.
    """

    kind: Kind
    order: int
    pruning: tuple[int, ...]
    discount_fallback: bool


def default_kind(lang: str) -> Kind:
    """Return the kind of model for a language: letters where there are no spaces between words."""
    return "letter" if languages.is_character_scored(lang) else "word"


def default_order(kind: Kind, transcripts: bool) -> int:
    """Return the paper's order; letter models of transcripts have a lower one than those of text from the web."""
    if kind == "word":
        return WORD_ORDER
    return TRANSCRIPT_LETTER_ORDER if transcripts else LETTER_ORDER


def paper_recipe(kind: Kind, order: int, num_bytes: int, transcripts: bool) -> Recipe:
    """Return the paper's pruning for normalised text of this size; transcripts are not pruned.

    Ours: that word models of transcripts are not pruned either, and that these and letter models may fall back (an
    alphabet has no rare letters, so lmplz would count gigabytes and then fail).
    """
    if transcripts:
        return Recipe(kind, order, (), discount_fallback=True)
    if kind == "letter":
        return Recipe(kind, order, LETTER_PRUNING[:order], discount_fallback=True)
    pruning = (1, 2, 3, 4, 5) if num_bytes >= 5 * GB else (1, 1, 2, 3, 4)
    return Recipe(kind, order, pruning[:order], discount_fallback=num_bytes < GB)


def parse_pruning(text: str, order: int) -> tuple[int, ...]:
    """Read thresholds such as "0 0 1", or "none"; ValueError unless they never fall and are at most `order`."""
    try:
        pruning = () if text == "none" else tuple(map(int, text.replace(",", " ").split()))
    except ValueError:
        pruning = (-1,)
    if list(pruning) != sorted(pruning) or min(pruning, default=0) < 0 or len(pruning) > order or not text.strip():
        raise ValueError(
            f"--prune {text!r}: expected none, or at most {order} whole numbers that never fall, such as '0 0 1'"
        )
    return pruning


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a model knows, most frequent first, with their spelling for the lexicon, and what is outside.

    `outside` holds tokens of the text that cannot be spelt, with the units that are missing.
    """

    spellings: dict[str, list[str]]
    outside: dict[str, list[str]]

    def lexicon(self) -> str:
        """Return lines of word, tab, and units with spaces between, as flashlight and fairseq read them."""
        return "".join(f"{word}\t{' '.join(units)}\n" for word, units in self.spellings.items())


def vocabulary(
    counts: Mapping[str, int],
    units: Collection[str],
    spell: Encode,
    size: int = VOCABULARY,
) -> Vocabulary:
    """Take the most frequent tokens (ties by code point) and spell them in the units of the acoustic model."""
    known = set(units)
    ranked = sorted(counts, key=lambda token: (-counts[token], token))[:size]
    found = Vocabulary({}, {})
    for token in ranked:
        spelling = spell(token)
        if missing := [unit for unit in dict.fromkeys(spelling) if unit not in known]:
            found.outside[token] = missing
        else:
            found.spellings[token] = spelling
    return found


def describe_outside(found: Vocabulary, counts: Mapping[str, int], kind: Kind) -> str:
    """Say which tokens cannot be spelt: how many, how much of the text they are, and the most frequent."""
    noun = "words" if kind == "word" else "letters"
    total = len(found.spellings) + len(found.outside)
    share = 100 * sum(counts[token] for token in found.outside) / max(1, sum(counts.values()))
    first = list(found.outside.items())[:SHOWN]
    shown = [f"{token} ({' '.join(missing)})" if kind == "word" else token for token, missing in first]
    more = " ..." if len(found.outside) > SHOWN else ""
    return f"{len(found.outside):,} of {total:,} {noun} ({share:.2f} % of the text): {', '.join(shown)}{more}"


def require_word_end(units: Collection[str], where: str) -> None:
    """Raise ValueError when the units of a model have no mark for the end of a word."""
    if WORD_END not in units:
        raise ValueError(f"{where}: has no {WORD_END!r}, which ends every word; give the dict.ltr.txt of the model")
