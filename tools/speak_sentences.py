"""Random sentences from word lists and templates (speak_corpus.toml, speak_more.toml), with numbers by num2words."""

import random
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from num2words import num2words

PHRASES_FILES = [Path(__file__).with_name(name) for name in ("speak_corpus.toml", "speak_more.toml")]
LETTERS_RANGE = {True: (6, 70), False: (4, 30)}  # of a sentence, in scripts with and without spaces
WORDS_RANGE = {True: (2, 8), False: (1, 1)}
CANDIDATES = 4  # sentences drawn for each that is spoken


def load_languages(files: Sequence[Path] = PHRASES_FILES) -> dict[str, dict[str, Any]]:
    """Return the settings and word lists of the languages, by FLEURS code; those of the first file are the demo's."""
    return {code: lang for file in files for code, lang in tomllib.loads(file.read_text(encoding="utf-8")).items()}


def number_words(kind: str, lang: dict[str, Any], rng: random.Random) -> str:
    """Return a random number of `kind` (cardinal, ordinal, year, price) in the words of the language."""
    options: dict[str, Any] = {"lang": lang["numbers"]}
    if lang["numbers"] == "ja":
        options["reading"] = True  # kana instead of kanji
    if kind == "price":
        units = rng.choice([n for n in range(2, 100) if n % 10 != 1])  # "21 euros" comes out wrong in Spanish
        amount = units + rng.randrange(5, 100, 5) / 100
        return str(num2words(amount, to="currency", currency=lang["currency"], **options))
    if kind == "ordinal":
        return str(num2words(rng.randint(1, lang["max_ordinal"]), to="ordinal", **options))
    if kind == "year":
        return str(num2words(rng.randint(1870, 2049), to="year", **options))
    return str(num2words(rng.randrange(1, 10 ** rng.choice((1, 2, 2, 3, 4))), **options))


def draw_sentence(lang: dict[str, Any], rng: random.Random) -> str:
    """Return one random sentence: a template with its slots filled, not yet capitalised."""
    slots = [key for key, value in lang.items() if isinstance(value, list) and key not in ("templates", "kinds")]
    lists: dict[str, list[str]] = {slot: lang[slot] for slot in slots}
    everything = [word for words in lists.values() for word in words]

    def fill(slot: re.Match[str]) -> str:
        name = slot.group(1)
        if name in lang["kinds"]:
            return number_words(name, lang, rng)
        return rng.choice(everything if name == "word" else lists[name])

    sentence = re.sub(r"{(\w+)}", fill, rng.choice(lang["templates"]))
    return unicodedata.normalize("NFC", sentence if lang.get("spaces", True) else sentence.replace(" ", ""))


def transcribe(sentence: str) -> str:
    """Return FLEURS's `transcription` of a raw sentence: lower case, letters, marks and apostrophes, single spaces."""
    kept = (c if c == "'" or unicodedata.category(c)[0] in "LM" else " " for c in sentence.lower())
    return " ".join("".join(kept).split())


def sentences(lang: dict[str, Any], rng: random.Random, spoken: set[str]) -> Iterator[tuple[str, str]]:
    """Yield (raw sentence, transcription) without end; each is new to `spoken`, which grows by it.

    Of every few sentences drawn, the one with the rarest letters is spoken, so that no letter is left almost unheard.
    """
    heard: Counter[str] = Counter()

    def rarity(candidate: tuple[str, str]) -> float:
        letters = sorted(set(candidate[1]))  # sorted: a set has another order, and its sum other bits, in each run
        return sum(1 / (1 + heard[letter]) for letter in letters) / len(letters)

    while True:
        raw, transcription = max((draw_new_sentence(lang, rng, spoken) for _ in range(CANDIDATES)), key=rarity)
        spoken.add(transcription)
        heard.update(transcription)
        yield raw, transcription


def draw_new_sentence(lang: dict[str, Any], rng: random.Random, spoken: set[str]) -> tuple[str, str]:
    """Return one random (raw sentence, transcription) of a fit length that is not in `spoken`."""
    spaces = lang.get("spaces", True)
    (fewest_letters, most_letters), (fewest_words, most_words) = LETTERS_RANGE[spaces], WORDS_RANGE[spaces]
    for _ in range(10_000):
        sentence = draw_sentence(lang, rng)
        transcription = transcribe(sentence)
        fits = fewest_letters <= len(transcription) <= most_letters
        fits = fits and fewest_words <= len(transcription.split()) <= most_words
        if fits and transcription not in spoken:
            return sentence[0].upper() + sentence[1:] + lang["stop"], transcription
    raise ValueError(f"no new sentence after {len(spoken):,}; speak fewer minutes, or add words to its file")
