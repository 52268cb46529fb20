"""Letters of a CTC head: fairseq's symbols in the order of the head's rows, and Hugging Face's vocab.json.

fairseq has <s> (the CTC blank), <pad>, </s>, <unk> as 0 to 3. Hugging Face's blank is the pad token, so the released
models carry <pad>, <s>, </s>, <unk> there: the rows stay where they are, two names swap.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pydantic
import torch

from mms_recipes import files, parsing

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


class _AddedToken(parsing.Schema):
    content: str


Token = str | _AddedToken
Id = Annotated[int, pydantic.Field(ge=0, le=10_000_000)]
Number = Annotated[str, pydantic.Field(pattern=r"^[0-9]{1,8}$")]


class _Special(parsing.Schema):
    """Special tokens by what they are for, as tokenizer_config.json and special_tokens_map.json name them."""

    pad_token: Token | None = None
    bos_token: Token | None = None
    eos_token: Token | None = None
    unk_token: Token | None = None


class _Tokenizer(_Special):
    """What is read of tokenizer_config.json."""

    word_delimiter_token: Token | None = None
    target_lang: str | None = None
    added_tokens_decoder: dict[Number, Token] | None = None


class Vocabularies:
    """What the tokenizer files of a folder say: the vocabulary, nested by language or not, and the special tokens.

    Raises FileNotFoundError, or ValueError: the file and the key, what was found, what is expected.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "vocab.json"
        if not self.file.is_file():
            raise FileNotFoundError(
                f"{self.file}: not there; without the tokenizer's files the letters of the head are not known: "
                "download vocab.json and tokenizer_config.json too"
            )
        content = parsing.read_json(dict[str, Any], self.file)
        nested = {isinstance(value, dict) for value in content.values()}
        if len(nested) != 1:
            raise ValueError(f"{self.file}: expected {{token: id}} or {{language: {{token: id}}}}")
        self.nested = nested.pop()
        kind: Any = dict[str, dict[str, Id]] if self.nested else dict[str, Id]
        self.content: dict[str, Any] = parsing.parse(kind, content, self.file)
        for lang in self.langs:
            files.plain_name(lang, self.file)
        config, self.absent = _Tokenizer(), []
        if (path := folder / "tokenizer_config.json").is_file():
            config = parsing.read_json(_Tokenizer, path)
        else:
            self.absent.append(path.name)
        more = _Special()
        if (path := folder / "special_tokens_map.json").is_file():
            more = parsing.read_json(_Special, path)
        else:
            self.absent.append(path.name)
        self.default_lang = config.target_lang
        self.delimiter = _content(config.word_delimiter_token or "|")
        names = [f"{name}_token" for name in ("pad", "bos", "eos", "unk")]
        self.specials = tuple(
            _content(getattr(config, name) or getattr(more, name) or default)
            for name, default in zip(names, SPECIALS_THERE, strict=True)
        )
        self.added = {_content(token): int(number) for number, token in (config.added_tokens_decoder or {}).items()}
        if (path := folder / "added_tokens.json").is_file():
            self.added |= parsing.read_json(dict[str, Id], path)

    @property
    def langs(self) -> list[str]:
        """Languages of a nested vocabulary."""
        return list(self.content) if self.nested else []

    def tokens(self, lang: str | None, rows: int) -> list[str]:
        """Tokens of a language's head in the order of its rows. ValueError when they are not those of the rows."""
        if self.nested and lang is None and len(self.content) == 1:
            lang = self.langs[0]
        if self.nested and (lang is None or lang not in self.content):
            raise ValueError(f"{self.file}: no vocabulary for {lang!r}; there are {', '.join(self.content)}")
        vocabulary: Mapping[str, int] = self.content[str(lang)] if self.nested else self.content
        of = f" of {lang!r}" if self.nested else ""
        found: dict[int, str] = {}
        for token, number in vocabulary.items():
            if number in found:
                tokens = f"{parsing.shown(found[number])} and {parsing.shown(token)}"
                raise ValueError(f"{self.file}: {tokens}{of} have one id, {number}; expected one for each token")
            found[number] = token
        if len(found) < rows:  # in some, the specials stand apart, behind the letters
            found = {number: token for token, number in self.added.items() if number < rows} | found
        if sorted(found) != list(range(rows)):
            raise ValueError(
                f"{self.file}: {len(vocabulary)} tokens{of}, but the head has {rows} rows; expected an id for each "
                f"row, 0 to {rows - 1}: vocabulary and weights are not of one model"
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
            absent = f"; {' and '.join(self.absent)} say what it is called, and are not there" if self.absent else ""
            raise ValueError(
                f"{self.file}: no {parsing.shown(self.specials[0])} among the tokens, which is the CTC blank{absent}: "
                "download all files of the tokenizer"
            )
        symbols = [*SPECIALS, *("|" if token == self.delimiter else token for token in self._letters(tokens))]
        if len(set(symbols)) < len(symbols):
            doubled = next(symbol for symbol in symbols if symbols.count(symbol) > 1)
            raise ValueError(
                f"{self.file}: two rows of the head are {parsing.shown(doubled)}; expected each token once"
            )
        if tuple(tokens[:4]) == self.specials:
            return symbols, weight, bias
        rows = [tokens.index(token) if token in tokens else -1 for token in self.specials]
        order = torch.tensor(rows + [tokens.index(token) for token in self._letters(tokens)])
        new = order < 0
        weight, bias = weight[order.clamp(min=0)].clone(), bias[order.clamp(min=0)].clone()
        weight[new], bias[new] = 0, NEVER
        return symbols, weight, bias

    def _letters(self, tokens: Sequence[str]) -> list[str]:
        return [token for token in tokens if token not in self.specials]


def _content(token: Token) -> str:
    return token if isinstance(token, str) else token.content
