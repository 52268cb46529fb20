"""CTC beam search with an n-gram model, by flashlight-text and KenLM; equal to fairseq's decoder of the same emissions.

Word models: lexicon search, the trie smeared with the best score below each node. Letter models: lexicon-free search.
Source: fairseq:examples/speech_recognition/new/decoders/flashlight_decoder.py (MMS paper, appendix B).
"""

import functools
import logging
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mms_recipes.decoding import language_model, pool
from mms_recipes.decoding.greedy import BLANK
from mms_recipes.decoding.lexicon import Lexicon, read_lexicon
from mms_recipes.decoding.word_times import units_of
from mms_recipes.manifest import SPECIAL_TOKENS
from mms_recipes.text import WORD_END

logger = logging.getLogger(__name__)

TRIAL_FRAMES = 40
TRIAL_SECONDS, TRIAL_BYTES_PER_SECOND = 120, 10_000_000  # more than any whole model takes to be loaded

LM_WEIGHT, WORD_SCORE, SIL_SCORE = 2.0, -1.0, 0.0  # fairseq's defaults: decoders/decoder_config.py


@dataclass(frozen=True)
class BeamOptions:
    """How to search. Scores are added in log10 of the model, ln of the emissions: KenLM's and CTC's own units.

    `beam_size` hypotheses and the best `beam_size_token` units of a frame are kept, and hypotheses no worse than the
    best by `beam_threshold`. `log_add` adds up hypotheses that meet instead of keeping the better one.
    """

    beam_size: int = 500
    beam_size_token: int = 50
    beam_threshold: float = 50.0
    lm_weight: float = LM_WEIGHT
    word_score: float = WORD_SCORE
    unk_score: float = -math.inf
    sil_score: float = SIL_SCORE
    log_add: bool = False
    nbest: int = 1

    def __post_init__(self) -> None:
        for name in ("beam_size", "beam_size_token", "nbest"):
            if getattr(self, name) < 1:
                raise ValueError(f"decoding.{name} is {getattr(self, name)}, expected at least 1")
        if not self.beam_threshold > 0:
            raise ValueError(f"decoding.beam_threshold is {self.beam_threshold}, expected more than 0")
        if self.nbest > self.beam_size:
            raise ValueError(f"decoding.nbest is {self.nbest}, but decoding.beam_size only {self.beam_size}")
        for name in ("lm_weight", "word_score", "sil_score"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"decoding.{name} is {getattr(self, name)}, expected a finite number")


class Hypothesis(NamedTuple):
    """One result of a search: unit ids (repeats merged, no blanks), words of the lexicon, and scores.

    `score` = `emission_score` + lm_weight * `lm_score` + what words and silences add; `words` is None without
    a lexicon.
    """

    units: list[int]
    words: list[str] | None
    score: float
    emission_score: float
    lm_score: float


class SearchSpace:
    """A language's n-gram model and, for words, the trie of its lexicon: loaded once, for any number of searches."""

    def __init__(self, symbols: Sequence[str], model: Path, lexicon: Lexicon | None = None) -> None:
        """Load `model` for a head with the units `symbols`; without `lexicon` it is a model of those units.

        Raises ValueError when flashlight-text is not installed or KenLM cannot read the model, whose order is one that
        `require_order` let through: KenLM itself is not safe from files of others.
        """
        flashlight = _flashlight()
        self.symbols = list(symbols)
        self.silence = self.symbols.index(WORD_END) if WORD_END in self.symbols else self.symbols.index("</s>")
        self.dictionary = flashlight.dictionary.Dictionary()
        self.trie: Any = None
        if lexicon is None:
            for symbol in self.symbols:
                self.dictionary.add_entry(symbol)
            self.model = _load(model, self.dictionary)
            return
        for word in dict.fromkeys(word for word, _ in lexicon.entries):
            self.dictionary.add_entry(word)
        if not self.dictionary.contains("<unk>"):
            self.dictionary.add_entry("<unk>")
        self.dictionary.set_default_index(self.dictionary.get_index("<unk>"))
        self.model = _load(model, self.dictionary)
        self.trie = flashlight.decoder.Trie(len(self.symbols), self.silence)
        start = self.model.start(False)
        for word, spelling in lexicon.entries:
            label = self.dictionary.get_index(word)
            self.trie.insert(list(spelling), label, self.model.score(start, label)[1])
        self.trie.smear(flashlight.decoder.SmearingMode.MAX)

    def decoder(self, options: BeamOptions) -> "BeamDecoder":
        """Return a search of this space; making one is quick."""
        return BeamDecoder(self, options)


class BeamDecoder:
    """A search with fixed options, of one utterance at a time."""

    def __init__(self, space: SearchSpace, options: BeamOptions) -> None:
        self.space, self.nbest = space, options.nbest
        decoder = _flashlight().decoder
        shared = {
            "beam_size": options.beam_size,
            "beam_size_token": options.beam_size_token,
            "beam_threshold": options.beam_threshold,
            "lm_weight": options.lm_weight,
            "sil_score": options.sil_score,
            "log_add": options.log_add,
            "criterion_type": decoder.CriterionType.CTC,
        }
        if space.trie is None:
            search = decoder.LexiconFreeDecoderOptions(**shared)
            self._search = decoder.LexiconFreeDecoder(search, space.model, space.silence, BLANK, [])
        else:
            search = decoder.LexiconDecoderOptions(word_score=options.word_score, unk_score=options.unk_score, **shared)
            unknown = space.dictionary.get_index("<unk>")
            self._search = decoder.LexiconDecoder(
                search, space.trie, space.model, space.silence, BLANK, unknown, [], False
            )

    def decode(self, emissions_TV: npt.NDArray[np.float32]) -> list[Hypothesis]:
        """Return the `nbest` best hypotheses of log-probabilities (frames, units), the best first; at least one.

        Raises ValueError when the emissions are not those of these units, or not all finite.
        """
        emissions_TV = np.ascontiguousarray(emissions_TV, np.float32)
        frames, units = emissions_TV.shape
        if units != len(self.space.symbols):
            raise ValueError(f"emissions of {units} units, expected {len(self.space.symbols)}")
        if not np.isfinite(emissions_TV).all():
            raise ValueError("emissions that are not finite: the model is broken (diverged in training?)")
        found = self._search.decode(emissions_TV.ctypes.data, frames, units) if frames else []
        best = [self._hypothesis(result) for result in found[: self.nbest]]
        return best or [Hypothesis([], None if self.space.trie is None else [], 0.0, 0.0, 0.0)]

    def _hypothesis(self, result: Any) -> Hypothesis:
        words = None
        if self.space.trie is not None:
            words = [self.space.dictionary.get_entry(word) for word in result.words if word >= 0]
        return Hypothesis(units_of(result.tokens), words, result.score, result.emittingModelScore, result.lmScore)


def load_space(folder: Path, symbols: Sequence[str], words: bool, drop_oov: bool = False) -> SearchSpace:
    """Load the model of a language, `folder`/lm.bin and for `words` lexicon.txt, for a head with the units `symbols`.

    Raises what `require_order`, `read_lexicon` and `SearchSpace` raise; whether these files are of one language is what
    `check_files` looks at, before.
    """
    model = folder / language_model.MODEL
    require_order(model)
    lexicon = read_lexicon(folder / language_model.LEXICON, symbols, drop_oov) if words else None
    return SearchSpace(symbols, model, lexicon)


def check_files(folder: Path, symbols: Sequence[str], words: bool, drop_oov: bool = False) -> Lexicon | None:
    """Look at the files of a language's model, once; return its lexicon, None for letters.

    At last the model is loaded and searched in a process of its own: what is broken inside ends that one. Raises
    FileNotFoundError or ValueError: a file that is missing or is something else, an order that KenLM does not read, a
    lexicon or a model of other units, a model that cannot be loaded. What is known in part is logged.
    """
    lexicon = _check_contents(folder, symbols, words, drop_oov)
    model = folder / language_model.MODEL
    seconds = TRIAL_SECONDS + model.stat().st_size / TRIAL_BYTES_PER_SECOND
    pool.trial(_try_model, (list(symbols), model, lexicon), model, seconds)
    return lexicon


def _try_model(symbols: Sequence[str], model: Path, lexicon: Lexicon | None) -> None:
    """Load a model and search emissions of noise, which meet all units."""
    noise_TV = np.random.default_rng(1).standard_normal((TRIAL_FRAMES, len(symbols)), dtype=np.float32)
    SearchSpace(symbols, model, lexicon).decoder(BeamOptions(beam_size=50)).decode(noise_TV)


def _check_contents(folder: Path, symbols: Sequence[str], words: bool, drop_oov: bool) -> Lexicon | None:
    model = folder / language_model.MODEL
    language_model.check_whole(folder)
    require_order(model)
    if not words:
        letters = [symbol for symbol in symbols if symbol not in SPECIAL_TOKENS]
        if unknown := language_model.check_letter_model(model, letters):
            logger.info("%s: does not know %d of %d letters: %.80s", model, len(unknown), len(letters), unknown)
        return None
    lexicon = read_lexicon(folder / language_model.LEXICON, symbols, drop_oov)
    listed = list(dict.fromkeys(word for word, _ in lexicon.entries))
    known = language_model.check_word_model(model, listed)
    if lexicon.dropped:
        logger.warning("%s: %d lines left out, their units are not the model's", lexicon.path, lexicon.dropped)
    if known < len(listed):
        logger.warning("%s: does not know %d of %d words of its lexicon", model, len(listed) - known, len(listed))
    return lexicon


def require_order(model: Path) -> None:
    """Raise ValueError when the KenLM that is installed does not read models of this one's order."""
    order = language_model.read_order(model)
    highest = highest_order() if order > language_model.ORDER_OF_WHEELS else order
    if order > highest:
        raise ValueError(
            f"{model}: a {order}-gram model; the KenLM inside flashlight-text reads up to order {highest} here. Build "
            f"flashlight-text for higher ones, once: python tools/build_flashlight.py .kenlm --max-order "
            f"{max(order, language_model.PAPER_ORDER)}; or the model with --order {highest}"
        )


@functools.cache
def highest_order() -> int:
    """Return the highest order that the installed KenLM reads, by what it says of a model of order 255."""
    dictionary = _flashlight().dictionary.Dictionary()
    counts = [f"ngram {n}=1" for n in range(1, 256)]
    with tempfile.NamedTemporaryFile("w", suffix=".arpa") as file:
        file.write("\n".join([language_model.ARPA_START, *counts, "", "\\1-grams:", ""]))
        file.flush()
        try:
            _flashlight().kenlm.KenLM(file.name, dictionary)
        except RuntimeError as error:
            if told := language_model.HIGHEST_ORDER.search(str(error)):
                return int(told[1])
            raise
    return 255


def _load(model: Path, dictionary: Any) -> Any:
    """Open a model that `read_order` recognised. What KenLM throws becomes ValueError; a text of it may be no UTF-8."""
    try:
        return _flashlight().kenlm.KenLM(str(model), dictionary)
    except (RuntimeError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{model}: KenLM cannot read this model; build it again with tools/build_lm.py: {said}"
        ) from None


class _Flashlight(NamedTuple):
    decoder: ModuleType
    dictionary: ModuleType
    kenlm: ModuleType


@functools.cache
def _flashlight() -> _Flashlight:
    try:
        from flashlight.lib.text import decoder, dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise ValueError(
            f"beam search needs flashlight-text ({error}); install it with pip install '.[decoding]', or "
            "take decoding=greedy"
        ) from None
    return _Flashlight(decoder, dictionary, kenlm)
