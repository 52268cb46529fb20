"""Letters of a CTC head: fairseq's symbols in the order of the head's rows, and Hugging Face's vocab.json.

fairseq has <s> (the CTC blank), <pad>, </s>, <unk> as 0 to 3. Hugging Face's blank is the pad token, so the released
models carry <pad>, <s>, </s>, <unk> there: the rows stay where they are, two names swap.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # fairseq's ids 0 to 3
SPECIALS_THERE = ("<pad>", "<s>", "</s>", "<unk>")
TOKENIZER = {
    "tokenizer_class": "Wav2Vec2CTCTokenizer",
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "word_delimiter_token": "|",
    "replace_word_delimiter_char": " ",
    "do_lower_case": False,
}
NEVER = -200.0  # bias of a special that the head of the source does not have: as good as never emitted


def to_vocabulary(symbols: Sequence[str], where: str) -> dict[str, int]:
    """Token -> id of Hugging Face from fairseq's symbols, the four specials first."""
    if tuple(symbols[:4]) != SPECIALS:
        raise ValueError(f"{where}: the dictionary begins with {list(symbols[:4])}, expected {list(SPECIALS)}")
    tokens = [*SPECIALS_THERE, *symbols[4:]]
    doubled = sorted({token for token in tokens if tokens.count(token) > 1})
    if doubled:
        raise ValueError(f"{where}: the dictionary has {doubled[0]!r} twice")
    return {token: number for number, token in enumerate(tokens)}


class Vocabularies:
    """What the tokenizer files of a folder say: the vocabulary, nested by language or not, and the special tokens."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "vocab.json"
        if not self.file.is_file():
            raise FileNotFoundError(
                f"{self.file}: not there; without the tokenizer's files the letters of the head are not known: "
                "download vocab.json and tokenizer_config.json too"
            )
        self.content = read_json(self.file)
        nested = {isinstance(value, dict) for value in self.content.values()}
        if len(nested) != 1:
            raise ValueError(f"{self.file}: expected {{token: id}} or {{language: {{token: id}}}}")
        self.nested = nested.pop()
        config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
        self.default_lang = config.get("target_lang")
        self.delimiter = _content(config.get("word_delimiter_token", "|"))
        self.specials = tuple(
            _content(config.get(f"{name}_token") or default)
            for name, default in zip(("pad", "bos", "eos", "unk"), SPECIALS_THERE, strict=True)
        )
        self.added: dict[str, int] = {
            _content(token): int(number) for number, token in config.get("added_tokens_decoder", {}).items()
        }
        if (folder / "added_tokens.json").is_file():
            self.added |= {str(token): int(number) for token, number in read_json(folder / "added_tokens.json").items()}

    @property
    def langs(self) -> list[str]:
        """Languages of a nested vocabulary."""
        return list(self.content) if self.nested else []

    def tokens(self, lang: str | None, rows: int) -> list[str]:
        """Tokens of a language's head in the order of its rows. ValueError when their numbers differ."""
        if self.nested and lang is None and len(self.content) == 1:
            lang = self.langs[0]
        if self.nested and (lang is None or lang not in self.content):
            raise ValueError(f"{self.file}: no vocabulary for {lang!r}; there are {', '.join(self.content)}")
        vocabulary: Mapping[str, int] = self.content[str(lang)] if self.nested else self.content
        found = {number: token for token, number in vocabulary.items()}
        if len(found) < rows:  # in some, the specials stand apart, behind the letters
            found = {number: token for token, number in self.added.items() if number < rows} | found
        if sorted(found) != list(range(rows)):
            of = f" of {lang!r}" if self.nested else ""
            raise ValueError(
                f"{self.file}: {len(vocabulary)} tokens{of}, but the head has {rows} rows; vocabulary and weights "
                "are not of one model"
            )
        return [found[number] for number in range(rows)]

    def to_fairseq(
        self, lang: str | None, weight: torch.Tensor, bias: torch.Tensor
    ) -> tuple[list[str], torch.Tensor, torch.Tensor]:
        """Symbols, weight (V, C) and bias (V,) in fairseq's order: the blank first, then the other specials.

        The heads of released models are in that order; of others rows move, and specials that are missing are added.
        """
        tokens = self.tokens(lang, len(weight))
        if self.specials[0] not in tokens:
            raise ValueError(f"{self.file}: no {self.specials[0]!r} among the tokens, which is the CTC blank")
        symbols = [*SPECIALS, *("|" if token == self.delimiter else token for token in self._letters(tokens))]
        if tuple(tokens[:4]) == self.specials:
            return symbols, weight, bias
        rows = [tokens.index(token) if token in tokens else -1 for token in self.specials]
        order = torch.tensor(rows + [tokens.index(token) for token in self._letters(tokens)])
        absent = order < 0
        weight, bias = weight[order.clamp(min=0)].clone(), bias[order.clamp(min=0)].clone()
        weight[absent], bias[absent] = 0, NEVER
        return symbols, weight, bias

    def _letters(self, tokens: Sequence[str]) -> list[str]:
        return [token for token in tokens if token not in self.specials]


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file; FileNotFoundError or ValueError with the path."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there; download the whole folder of the model")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object, found a {type(content).__name__}")
    return content
