"""A trained model ready to listen: emissions of utterances of many languages in one batch.

Dense checkpoints, folders of adapters and one-file checkpoints look the same from here.
"""

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from fairseq.data import Dictionary

from mms_recipes import adapter_files, checkpoints, files, letters, text
from mms_recipes.data import audio
from mms_recipes.decoding.beam import Hypothesis
from mms_recipes.decoding.greedy import greedy
from mms_recipes.formats import stock_checkpoints
from mms_recipes.formats.portable import Kind, Setting, settings
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.models.adapters import ADAPTER, AdapterStack
from mms_recipes.models.encoder import FrozenEncoder
from mms_recipes.transcription import routing
from mms_recipes.units import Units

logger = logging.getLogger(__name__)

SHOWN = 10
_adding = threading.Lock()  # for those who add languages; whoever uses them takes the heads that are there


@dataclass(frozen=True)
class Heads:
    """What turns the encoder's output into letters: one dense head for all languages, or adapters and a head for each.

    `dictionaries` are the heads' letters by language; the key "" stands for every language (dense). Heads are never
    changed: with one language more they are other heads, so any number of threads may use them.
    """

    dictionaries: Mapping[str, Dictionary] = field(default_factory=dict)
    adapters: AdapterStack | None = None
    head: tuple[torch.Tensor, torch.Tensor] | None = None

    def head_of(self, lang: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (V, C) and bias (V,) of a language's head."""
        if self.head is not None:
            return self.head
        assert self.adapters is not None
        return self.adapters.head(lang)

    def dictionary(self, lang: str) -> Dictionary:
        """The letters of a language's head. Raises ValueError when there is no adapter for it."""
        found = self.dictionaries.get("", self.dictionaries.get(lang))
        if found is None:
            have = ", ".join(sorted(self.dictionaries)[:10])
            raise ValueError(f"no adapter for {lang!r}; there are {len(self.dictionaries)}: {have}")
        return found


@dataclass
class Recognizer:
    """An encoder and the heads that were read so far. Threads may share it, also while one of them adds languages.

    `source` has the adapters that `add_languages` can read (None: dense). `texts` are the letters of the texts that its
    hypotheses are compared with, by language: where those are capitals, a model of capitals is left to write them.
    """

    encoder: FrozenEncoder
    normalize: bool
    heads: Heads
    base_hash: str
    source: Mapping[str, adapter_files.Adapter] | None = None
    path: str | Path = ""  # where all of this was read, for messages
    texts: Mapping[str, Counter[str]] = field(default_factory=dict)

    @property
    def base_settings(self) -> dict[str, Setting]:
        """What else belongs to which base this is (portable.settings)."""
        return settings(self.encoder.cfg, self.normalize)

    @property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        return self.heads.dictionaries

    @property
    def adapters(self) -> AdapterStack | None:
        return self.heads.adapters

    @property
    def head(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return self.heads.head

    @property
    def available(self) -> list[str] | None:
        """Languages that there are adapters for; None for a dense head, which does not ask."""
        return None if self.source is None else sorted(self.source)

    @property
    def frame_seconds(self) -> float:
        """How far the frames of the emissions lie apart: 0.02 s for wav2vec 2.0's convolutions."""
        return self.encoder.receptive_field[1] / SAMPLE_RATE

    def add_languages(self, langs: Sequence[str]) -> None:
        """Read the adapters of languages that are not there yet, all of them or none; a dense head needs none.

        Raises ValueError when there is none for a language, or one of another base.
        """
        if self.source is None or all(lang in self.dictionaries for lang in langs):
            return
        with _adding:
            new = [lang for lang in dict.fromkeys(langs) if lang not in self.dictionaries]
            routing.require(new, self.source, self.path)
            found = {lang: self.source[lang] for lang in new}
            for adapter in found.values():
                adapter.require_base(self.base_hash, self.base_settings)
            if found:
                self.heads = self._with(found)

    def _with(self, found: Mapping[str, adapter_files.Adapter]) -> Heads:
        """Return heads of the languages that are there and of those that were found."""
        states = {lang: self.adapters.language_state(lang) for lang in self.adapters.langs} if self.adapters else {}
        states |= {lang: adapter.tensors for lang, adapter in found.items()}
        own = {lang: adapter.dictionary() for lang, adapter in found.items()}
        dictionaries = dict(self.dictionaries) | _written(own, self.texts, self.path)
        width = next(iter(states.values()))[ADAPTER.format(0) + "b_a"].shape[1]
        sizes = [len(dictionaries[lang]) for lang in states]
        stack = AdapterStack(list(states), sizes, len(self.encoder.layers), self.encoder.dim, width)
        for lang, state in states.items():
            stack.load_language_state(lang, state)
        return Heads(dictionaries, stack.to(next(self.encoder.parameters()).device).eval())

    def dictionary(self, lang: str) -> Dictionary:
        """The letters of a language's head. Raises ValueError when there is no adapter for it."""
        return self.heads.dictionary(lang)

    @torch.inference_mode()
    def emissions(
        self, source_BS: torch.Tensor, lengths_B: torch.Tensor, langs: Sequence[str], ready: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities (B, T, V) in float32 and the number of frames (B,) of padded utterances of S samples.

        Audio is at 16 kHz, float32, raw (-1 to 1) or standardised: a model with `normalize` gets each utterance with
        zero mean and unit variance. `ready`: it is as the model expects it, also where it does not look so, as a window
        that is standardised by its whole recording. Raises ValueError for a language that is not there.
        """
        heads = self.heads  # others may take their place meanwhile
        for lang in langs:
            heads.dictionary(lang)
        if not ready:
            source_BS = audio.as_expected(source_BS, lengths_B, self.normalize)
        features_BTC, frames_B = self.encoder.features(source_BS, lengths_B)
        if heads.head is not None:
            weight, bias = (tensor.to(features_BTC) for tensor in heads.head)
            x_BTC = self.encoder.context(features_BTC, frames_B)
            return torch.nn.functional.linear(x_BTC, weight, bias).float().log_softmax(-1), frames_B
        stack = heads.adapters
        assert stack is not None
        langs_B = torch.tensor([stack.langs.index(lang) for lang in langs], device=features_BTC.device)
        x_BTC = self.encoder.context(features_BTC, frames_B, lambda number, x: stack.blocks[number](x, langs_B))
        return stack.heads(x_BTC, langs_B).float().log_softmax(-1), frames_B

    def transcribe(self, source_BS: torch.Tensor, lengths_B: torch.Tensor, langs: Sequence[str]) -> list[str]:
        """The words of each utterance by greedy decoding; audio as in `emissions`, from files see `Transcriber`."""
        emissions_BTV, frames_B = self.emissions(source_BS, lengths_B, langs)
        return [self.words(row, lang) for row, lang in zip(greedy(emissions_BTV, frames_B), langs, strict=True)]

    def words(self, units: Sequence[int], lang: str) -> str:
        """The words that unit ids of a language's head spell."""
        symbols = self.dictionary(lang).symbols
        return text.to_words(" ".join(symbols[unit] for unit in units))

    def text(self, found: Hypothesis, lang: str) -> str:
        """The words that a search of a language found: those of its lexicon, else what its units spell."""
        return self.words(found.units, lang) if found.words is None else " ".join(found.words)


def load_recognizer(
    checkpoint: str | Path,
    device: torch.device,
    langs: Sequence[str],
    base: str | Path | None = None,
    texts: Mapping[str, Counter[str]] | None = None,
) -> Recognizer:
    """Load a dense checkpoint (.pt), a folder of adapters or a one-file checkpoint with adapters for `langs`.

    A folder of Hugging Face's stands for the checkpoint that it is converted to. The base of a folder of adapters is
    `base`, else beside them, else where it was at training. `texts` as in Recognizer. Raises FileNotFoundError or
    ValueError: nothing there, another architecture, an adapter of another base, a language without an adapter.
    """
    recognizer = open_recognizer(checkpoint, device, base, texts)
    recognizer.add_languages(langs)
    return recognizer


def open_recognizer(
    checkpoint: str | Path,
    device: torch.device,
    base: str | Path | None = None,
    texts: Mapping[str, Counter[str]] | None = None,
) -> Recognizer:
    """Load all but the adapters, which `add_languages` reads when they are asked for. Raises as `load_recognizer`."""
    texts = texts or {}
    if adapter_files.is_folder_of_adapters(checkpoint):
        adapters = adapter_files.read_adapters(checkpoint)
        found = adapter_files.find_base(adapters, checkpoints.read_base, base, "base=FILE (transcribe: --base FILE)")
        return Recognizer(
            _encoder(found, device), found.normalize, Heads(), found.hash, source=adapters, path=checkpoint, texts=texts
        )
    state = checkpoints.load_checkpoint(checkpoint)
    found = checkpoints.base_of(state, checkpoint)
    if "adapter" in state:
        adapters = adapter_files.adapters_of(state, checkpoint, found.hash)
        return Recognizer(
            _encoder(found, device), found.normalize, Heads(), found.hash, source=adapters, path=checkpoint, texts=texts
        )
    weight, bias, _ = found.require_head()
    assert found.dictionary is not None
    every = {"": sum(texts.values(), Counter[str]())} if texts else {}
    heads = Heads(_written({"": found.dictionary}, every, checkpoint), head=(weight, bias))
    return Recognizer(_encoder(found, device), found.normalize, heads, found.hash)


def _written(
    own: Mapping[str, Dictionary], texts: Mapping[str, Counter[str]], path: str | Path
) -> dict[str, Dictionary]:
    """The letters of heads as they are written: see letters.py."""
    found, small = dict(own), []
    for lang, dictionary in own.items():
        symbols = letters.written(dictionary.symbols, texts.get(lang))
        if symbols != dictionary.symbols:
            found[lang] = stock_checkpoints.dictionary(symbols, Kind.ctc)
            small.append(lang)
    if small:
        of = f" of {', '.join(small[:SHOWN])}{', ...' * (len(small) > SHOWN)}" if any(small) else ""
        logger.info(
            "%s: the model's letters%s are capitals; they are written in lower case, as all text here", path, of
        )
    return found


def read_spelling(checkpoint: str | Path, lang: str) -> tuple[list[str], Units]:
    """Return the symbols of a language's head and how words are spelt with them; the model itself is not loaded.

    `checkpoint` as in `load_recognizer`. Raises FileNotFoundError or ValueError: nothing there, not of this language.
    """
    if adapter_files.is_folder_of_adapters(checkpoint):
        adapter = adapter_files.read_adapter(files.inside(Path(checkpoint), f"{lang}.safetensors"))
        return letters.written(adapter.letters), adapter.units
    state = checkpoints.load_checkpoint(checkpoint, weights=False)
    if "adapter" in state:
        if lang not in state["adapter"]:
            raise ValueError(f"{checkpoint}: no adapter for {lang}; there are {', '.join(sorted(state['adapter']))}")
        state = state["adapter"][lang]
    task_state = state.get("task_state") or {}
    if "target_dictionary" not in task_state:
        raise ValueError(f"{checkpoint}: has no CTC head with a dictionary; give a dense CTC checkpoint or adapters")
    try:
        return letters.written(task_state["target_dictionary"].symbols), adapter_files.spelling(task_state, lang)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from None


def _encoder(base: checkpoints.Base, device: torch.device) -> FrozenEncoder:
    encoder = FrozenEncoder(base.cfg)
    encoder.load(base.encoder_state)
    return encoder.to(device)
