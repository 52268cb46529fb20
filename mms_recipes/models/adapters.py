"""LSAH's trained part: adapters and heads of many languages, stacked, each utterance through its own language's.

Shapes: B batch, T frames, C channels of the base, A adapter width, L languages of the job, V letters of a head.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

# prefixes of names in the released checkpoints (fairseq: wav2vec2_asr.py): of the encoder, of all, of the CTC head
ENCODER, HEAD = "w2v_encoder.w2v_model.", "w2v_encoder."
CTC_HEAD = HEAD + "proj."
ADAPTER = ENCODER + "encoder.layers.{}.adapter_layer."  # of a block, by its number
# stands in the columns that a language's head does not have; finite, because -inf makes the CTC gradient NaN
PAD_LOGIT = -1e4
ADAPTER_TENSORS = ("W_a", "W_b", "b_a", "b_b", "ln_W", "ln_b")


def language_generator(seed: int, lang: str, *place: int) -> torch.Generator:
    """A generator that depends on the language and not on the job it is trained in."""
    key = zlib.crc32(repr((seed, lang, place)).encode())
    return torch.Generator().manual_seed(key)


def language_shapes(num_blocks: int, dim: int, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of one language's adapter, without its head, under the names of the released checkpoints."""
    one = {"W_a": (1, width, dim), "W_b": (1, dim, width), "b_a": (1, width)}
    one |= dict.fromkeys(("b_b", "ln_W", "ln_b"), (1, dim))
    return {ADAPTER.format(block) + leaf: shape for block in range(num_blocks) for leaf, shape in one.items()}


def require_language_state(state: Mapping[str, torch.Tensor], rows: int, where: str) -> None:
    """Raise ValueError unless these are one language's adapter, of as many blocks as it has, and a head of `rows`."""
    first = state.get(ADAPTER.format(0) + "W_a")
    if first is None or first.ndim != 3:
        raise ValueError(f"{where}: {ADAPTER.format(0)}W_a: found {_shape(first)}, expected (1, width, dimension)")
    _, width, dim = first.shape
    expected = language_shapes(sum(name.endswith("adapter_layer.W_a") for name in state), dim, width)
    expected |= {CTC_HEAD + "weight": (rows, dim), CTC_HEAD + "bias": (rows,)}
    names = [*expected, *sorted(state.keys() - expected.keys())]
    wrong = next((name for name in names if name not in state or tuple(state[name].shape) != expected.get(name)), None)
    if wrong is not None:
        raise ValueError(
            f"{where}: {wrong}: found {_shape(state.get(wrong))}, expected {expected.get(wrong, 'no such tensor')} "
            f"(a head has a row for each of its {rows} letters)"
        )


def _shape(tensor: torch.Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def take_rows(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """table[index], with a gradient that is equal to the bit in every run, on any number of threads.

    The gradient of plain indexing adds rows up in whatever order the threads arrive. An embedding's adds them in order.
    """
    return F.embedding(index, table.reshape(len(table), -1)).view(*index.shape, *table.shape[1:])


class StackedAdapters(nn.Module):
    """The adapters of L languages after one transformer block: LayerNorm, C -> A, ReLU, A -> C (paper section 5.1).

    Tensors and initialisation are those of fairseq:models/wav2vec/wav2vec2.py AdapterFast, with a language where that
    has a number. `init`: "kaiming" as there (the output is not zero at first), or "zero" (A -> C starts at zero, so
    that training starts from exactly the base).
    """

    def __init__(self, num_langs: int, dim: int, adapter_dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.W_a = nn.Parameter(torch.empty(num_langs, adapter_dim, dim))
        self.W_b = nn.Parameter(torch.empty(num_langs, dim, adapter_dim))
        self.b_a = nn.Parameter(torch.empty(num_langs, adapter_dim))
        self.b_b = nn.Parameter(torch.empty(num_langs, dim))
        self.ln_W = nn.Parameter(torch.ones(num_langs, dim))
        self.ln_b = nn.Parameter(torch.zeros(num_langs, dim))

    @torch.no_grad()
    def reset(self, index: int, init: str, generator: torch.Generator) -> None:
        """Initialise language `index`."""
        into_a, into_b = 1 / math.sqrt(self.W_a.shape[2]), 1 / math.sqrt(self.W_b.shape[2])
        for tensor, bound in ((self.W_a, into_a), (self.b_a, into_a), (self.W_b, into_b), (self.b_b, into_b)):
            tensor[index].uniform_(-bound, bound, generator=generator)
        if init == "zero":
            self.W_b[index].zero_()
            self.b_b[index].zero_()

    def forward(self, x_BTC: torch.Tensor, langs_B: torch.Tensor) -> torch.Tensor:
        """Return x + adapter(x) for each utterance under its language. The LayerNorm's affine part is folded into A."""
        W_a, W_b, b_a, b_b, ln_W, ln_b = (take_rows(getattr(self, name), langs_B) for name in ADAPTER_TENSORS)
        into = W_a * ln_W.unsqueeze(1)
        bias = torch.baddbmm(b_a.unsqueeze(2), W_a, ln_b.unsqueeze(2)).transpose(1, 2)
        normal = F.layer_norm(x_BTC, (self.dim,))
        hidden_BTA = F.relu(torch.baddbmm(bias, normal, into.transpose(1, 2)))
        return x_BTC + torch.baddbmm(b_b.unsqueeze(1), hidden_BTA, W_b.transpose(1, 2))


def of_one_language(
    tensors: Mapping[str, torch.Tensor], num_blocks: int, device: torch.device | str = "cpu"
) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """Return what runs one language's adapter after each block, from tensors under the names of released checkpoints.

    It takes a block's number and output (B, T, C) and returns the next block's input (B, T, C).
    """
    blocks = []
    for prefix in (ADAPTER.format(number) for number in range(num_blocks)):
        langs, width, dim = tensors[prefix + "W_a"].shape
        blocks.append(StackedAdapters(langs, dim, width).to(device))
        blocks[-1].load_state_dict({name: tensors[prefix + name] for name in ADAPTER_TENSORS})
    return lambda number, x_BTC: blocks[number](x_BTC, x_BTC.new_zeros(len(x_BTC), dtype=torch.long))


class StackedHeads(nn.Module):
    """One linear head per language, of different sizes, kept as rows of one matrix."""

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.weight = nn.Parameter(torch.empty(sum(sizes), dim))
        self.bias = nn.Parameter(torch.zeros(sum(sizes)))
        ends = torch.tensor(self.sizes, device="cpu").cumsum(0)
        self.register_buffer("size", torch.tensor(self.sizes, device="cpu"), persistent=False)
        self.register_buffer("start", ends - torch.tensor(self.sizes, device="cpu"), persistent=False)

    def rows(self, index: int) -> slice:
        """The rows of language `index`."""
        start = sum(self.sizes[:index])
        return slice(start, start + self.sizes[index])

    @torch.no_grad()
    def reset(self, index: int, generator: torch.Generator) -> None:
        """Initialise language `index`: Xavier-uniform weights, zero bias, as fairseq:models/wav2vec/wav2vec2_asr.py."""
        weight = self.weight[self.rows(index)]
        bound = math.sqrt(6 / (weight.shape[0] + weight.shape[1]))
        weight.uniform_(-bound, bound, generator=generator)
        self.bias[self.rows(index)] = 0

    def forward(self, x_BTC: torch.Tensor, langs_B: torch.Tensor) -> torch.Tensor:
        """Logits (B, T, V) with V the largest head of the batch; columns beyond a language's own hold PAD_LOGIT."""
        size_B1 = self.size[langs_B].unsqueeze(1)
        column_V = torch.arange(int(size_B1.max()), device=x_BTC.device)
        row_BV = self.start[langs_B].unsqueeze(1) + torch.minimum(column_V, size_B1 - 1)
        weight_BVC, bias_BV = take_rows(self.weight, row_BV), take_rows(self.bias, row_BV)
        logits_BTV = torch.baddbmm(bias_BV.unsqueeze(1), x_BTC, weight_BVC.transpose(1, 2))
        return logits_BTV.masked_fill((column_V >= size_B1).unsqueeze(1), PAD_LOGIT)


class AdapterStack(nn.Module):
    """All that LSAH trains: adapters after every block and a head, for every language of the job.

    Each parameter carries `language_of_row`: the language that row i of its first dimension belongs to, for the
    per-language clipping of optimizers.py.
    """

    def __init__(self, langs: Sequence[str], head_sizes: Sequence[int], num_blocks: int, dim: int, width: int) -> None:
        super().__init__()
        self.langs = list(langs)
        self.blocks = nn.ModuleList(StackedAdapters(len(langs), dim, width) for _ in range(num_blocks))
        self.heads = StackedHeads(head_sizes, dim)
        for parameter in self.blocks.parameters():
            parameter.language_of_row = torch.arange(len(langs), device="cpu")
        for parameter in self.heads.parameters():
            parameter.language_of_row = torch.arange(len(langs), device="cpu").repeat_interleave(self.heads.size.cpu())

    def reset(self, seed: int, init: str) -> None:
        """Initialise every language from its own generator: the same values in whatever job it is."""
        for index, lang in enumerate(self.langs):
            for number, block in enumerate(self.blocks):
                block.reset(index, init, language_generator(seed, lang, number))
            self.heads.reset(index, language_generator(seed, lang, len(self.blocks)))

    def language_state(self, lang: str) -> dict[str, torch.Tensor]:
        """One language's tensors under the names of the released checkpoints (facts: fairseq infer.py, AdapterFast)."""
        index = self.langs.index(lang)
        state = {
            ADAPTER.format(number) + name: getattr(block, name)[index : index + 1]
            for number, block in enumerate(self.blocks)
            for name in ADAPTER_TENSORS
        }
        rows = self.heads.rows(index)
        state |= {CTC_HEAD + "weight": self.heads.weight[rows], CTC_HEAD + "bias": self.heads.bias[rows]}
        return {name: tensor.detach().cpu().float().contiguous().clone() for name, tensor in state.items()}

    def head(self, lang: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight (V, C) and bias (V,) of a language's head."""
        own = self.heads.rows(self.langs.index(lang))
        return self.heads.weight[own], self.heads.bias[own]

    @torch.no_grad()
    def load_language_state(self, lang: str, state: dict[str, torch.Tensor]) -> None:
        """Put one language's tensors in place. Raises ValueError when names or shapes are not this stack's."""
        own = self.language_state(lang)
        wrong = sorted(own.keys() ^ state.keys()) or [n for n in own if own[n].shape != state[n].shape]
        if wrong:
            name = wrong[0]
            found, expected = (tuple(s[name].shape) if name in s else "nothing" for s in (state, own))
            raise ValueError(f"adapter {lang!r}: {name}: found {found}, expected {expected}; it is of another base")
        index = self.langs.index(lang)
        for number, block in enumerate(self.blocks):
            for name in ADAPTER_TENSORS:
                getattr(block, name)[index] = state[ADAPTER.format(number) + name][0]
        self.heads.weight[self.heads.rows(index)] = state[CTC_HEAD + "weight"].to(self.heads.weight)
        self.heads.bias[self.heads.rows(index)] = state[CTC_HEAD + "bias"].to(self.heads.bias)
