"""Measure LSAH's training speed beside Hugging Face's and stock fairseq's: python tools/bench/lsah_training.py.

All train adapters and a head on one frozen base: same weights, same utterances in the same batches, fp32, no dropout,
no masks, audio already in memory, clipping and optimizer step per batch. Ours mixes eight languages in every batch; the
peers can only train one, so theirs are all of one language. Ours with an empty feature cache is its first epoch, with a
filled one each later epoch. The contestants take turns pass by pass, so what else the machine does meets all of them.
Before that, ours and Hugging Face's must give the same logits. Prints the medians over the passes as a Markdown table.
Needs the extra [bench].
"""

import argparse
import importlib
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from fairseq.criterions.ctc import CtcCriterion, CtcCriterionConfig
from fairseq.data import Dictionary
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
from fairseq.models.wav2vec.wav2vec2_asr import Wav2Vec2CtcConfig, Wav2VecCtc
from omegaconf import OmegaConf

import mms_recipes.plugins  # noqa: F401
from mms_recipes import config
from mms_recipes.criterions.ctc import CTCCriterion
from mms_recipes.data import audio
from mms_recipes.models.lsah import LSAHConfig, LSAHModel
from mms_recipes.optimizers import LanguageAdam

transformers: Any = importlib.import_module("transformers")  # an extra; so mypy says the same without it
# without these most of the time can go to page faults of memory that is freed and taken again
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
ALPHABETS = [28, 30, 32, 36, 40, 44, 52, 60]  # letters of the eight languages; the peers' has the smallest
ADAPTER_DIM, CLIP_NORM, LETTERS_A_SECOND = 16, 5.0, 12
CONV_STACK = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2"
WIDE = {"encoder_layers": 6, "encoder_embed_dim": 512, "encoder_ffn_embed_dim": 2048, "encoder_attention_heads": 8}
SIZES: dict[str, dict[str, Any]] = {  # what differs from configs/model/wav2vec2_small.yaml
    "demo": {},
    "full": {"conv_feature_layers": CONV_STACK, "conv_pos": 128, "conv_pos_groups": 16, **WIDE},
}
FAIRSEQ_TO_HF = {  # names, as transformers converts them
    r"^w2v_encoder\.proj": "lm_head",
    r"^w2v_encoder\.w2v_model": "wav2vec2",
    r"(conv_layers\.\d+)\.0": r"\1.conv",
    r"(conv_layers\.\d+)\.2\.1": r"\1.layer_norm",
    r"post_extract_proj": "feature_projection.projection",
    r"^wav2vec2\.layer_norm": "wav2vec2.feature_projection.layer_norm",
    r"pos_conv\.0\.bias": "pos_conv_embed.conv.bias",
    r"pos_conv\.0\.weight_g": "pos_conv_embed.conv.parametrizations.weight.original0",
    r"pos_conv\.0\.weight_v": "pos_conv_embed.conv.parametrizations.weight.original1",
    r"self_attn_layer_norm": "layer_norm",
    r"self_attn": "attention",
    r"fc1": "feed_forward.intermediate_dense",
    r"fc2": "feed_forward.output_dense",
    r"adapter_layer\.W_": "adapter_layer.weight_",
    r"adapter_layer\.b_": "adapter_layer.bias_",
    r"adapter_layer\.(weight|bias)_a": r"adapter_layer.linear_1.\1",
    r"adapter_layer\.(weight|bias)_b": r"adapter_layer.linear_2.\1",
    r"adapter_layer\.ln_W": "adapter_layer.norm.weight",
    r"adapter_layer\.ln_b": "adapter_layer.norm.bias",
}
PRETRAINING_TASK = {"_name": "audio_pretraining", "data": ""}
Batch = dict[str, Any]


@dataclass
class Contestant:
    """`loss` of a batch, what trains on it, and what comes before every pass."""

    name: str
    loss: Callable[[Batch], torch.Tensor]
    optimizer: Any
    clip: Callable[[], object]
    prepare: Callable[[], None] = lambda: None


# ---- data


def make_batches(seconds: float, count: int) -> list[Batch]:
    """Batches of `seconds`, padding included: utterances of 2 to 10 s, similar lengths together, as in our rounds."""
    generator = torch.Generator().manual_seed(0)
    lengths: list[int] = []
    while sum(lengths) < seconds * count * audio.SAMPLE_RATE:
        lengths.append(int((2 + 8 * torch.rand((), generator=generator)) * audio.SAMPLE_RATE))
    groups: list[list[int]] = [[]]
    for length in sorted(lengths):
        if groups[-1] and length * (len(groups[-1]) + 1) > seconds * audio.SAMPLE_RATE:
            groups.append([])
        groups[-1].append(length)
    return [make_batch(group, number * 1000, generator) for number, group in enumerate(groups)]


def make_batch(lengths: list[int], first: int, generator: torch.Generator) -> Batch:
    """Noise and random letters in the form of MixtureDataset.collater and LSAHTask; numbered from `first`."""
    source, padding_mask = audio.pad([torch.randn(length, generator=generator) for length in lengths])
    sizes = [length * LETTERS_A_SECOND // audio.SAMPLE_RATE for length in lengths]
    targets = [torch.randint(4, 4 + ALPHABETS[0], (size,), generator=generator) for size in sizes]
    ids = torch.arange(first, first + len(lengths))
    return {
        "id": ids,
        "net_input": {
            "source": source,
            "padding_mask": padding_mask,
            "langs": ids % len(ALPHABETS),
            "keys": [str(number) for number in ids.tolist()],
        },
        "target": torch.nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=Dictionary().pad()),
        "target_lengths": torch.tensor(sizes),
        "ntokens": sum(sizes),
    }


# ---- models


def make_model_config(size: str) -> dict[str, Any]:
    """configs/model/wav2vec2_small.yaml with what the size changes."""
    small: Any = OmegaConf.load(config.CONFIGS / "model" / "wav2vec2_small.yaml")
    return {name: small[name] for name in small if name != "defaults"} | SIZES[size] | {"_name": "wav2vec2"}


def make_ours(cfg: dict[str, Any]) -> LSAHModel:
    """Our model from a base on disk, as training builds it."""
    torch.manual_seed(0)
    base = Wav2Vec2Model(
        OmegaConf.merge(OmegaConf.structured(Wav2Vec2Config), {key: cfg[key] for key in cfg if key != "_name"})
    )
    dictionaries = [Dictionary() for _ in ALPHABETS]
    for dictionary, letters in zip(dictionaries, ALPHABETS, strict=True):
        for letter in range(letters):
            dictionary.add_symbol(str(letter))
    langs = [f"lang{number}" for number in range(len(ALPHABETS))]
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save({"cfg": {"model": cfg, "task": PRETRAINING_TASK}, "model": base.state_dict()}, file.name)
        settings = LSAHConfig(base=file.name, adapter_dim=ADAPTER_DIM, cache_gb=10.0, seed=1)
        model = LSAHModel.build_model(settings, SimpleNamespace(langs=langs, dictionaries=dictionaries))
    model.train()
    return model


def one_language_state(ours: LSAHModel) -> dict[str, torch.Tensor]:
    """The base and the first language under the names of stock fairseq's wav2vec_ctc."""
    base = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in ours.encoder.w2v.state_dict().items()}
    return base | ours.adapters.language_state(ours.adapters.langs[0])


def make_stock(cfg: dict[str, Any], state: Mapping[str, torch.Tensor], head_size: int) -> Wav2VecCtc:
    """Stock fairseq's model with its adapter layer for one language; all else frozen."""
    w2v_args = OmegaConf.create({"model": cfg, "task": PRETRAINING_TASK})
    adapters = {"layer_type": "trf_adp", "adp_num": 1, "adp_dim": ADAPTER_DIM}
    settings = Wav2Vec2CtcConfig(w2v_args=w2v_args, normalize=False, data="", **adapters)
    model = Wav2VecCtc.build_model(settings, SimpleNamespace(target_dictionary=range(head_size)))
    model.load_state_dict(state)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("adapter_layer" in name or name.startswith("w2v_encoder.proj"))
    return model.train()


def make_hugging_face(cfg: dict[str, Any], state: Mapping[str, torch.Tensor], head_size: int) -> Any:
    """Wav2Vec2ForCTC as its own recipe for adapters sets it up, the feature encoder frozen besides."""
    dims, kernels, strides = zip(*eval(cfg["conv_feature_layers"]), strict=True)
    dropouts = ("attention_dropout", "hidden_dropout", "activation_dropout", "feat_proj_dropout", "final_dropout")
    settings = transformers.Wav2Vec2Config(
        vocab_size=head_size,
        hidden_size=cfg["encoder_embed_dim"],
        num_hidden_layers=cfg["encoder_layers"],
        num_attention_heads=cfg["encoder_attention_heads"],
        intermediate_size=cfg["encoder_ffn_embed_dim"],
        conv_dim=dims,
        conv_kernel=kernels,
        conv_stride=strides,
        conv_bias=cfg["conv_bias"],
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=cfg["conv_pos"],
        num_conv_pos_embedding_groups=cfg["conv_pos_groups"],
        adapter_attn_dim=ADAPTER_DIM,
        ctc_loss_reduction="mean",
        mask_time_prob=0.0,
        layerdrop=0.0,
        **dict.fromkeys(dropouts, 0.0),
    )
    model = transformers.Wav2Vec2ForCTC._from_config(settings, attn_implementation="sdpa")
    if dims[-1] == cfg["encoder_embed_dim"]:  # fairseq then has no projection, so they need not pay for one
        model.wav2vec2.feature_projection.projection = torch.nn.Identity()
    renamed = {}
    for name, tensor in state.items():
        shape = tensor.shape[1:] if ".adapter_layer." in name else tensor.shape
        for pattern, new in FAIRSEQ_TO_HF.items():
            name = re.sub(pattern, new, name)
        renamed[name] = tensor.view(shape)
    del renamed["wav2vec2.mask_emb"]
    model.load_state_dict(renamed)
    model.freeze_feature_encoder()
    model.freeze_base_model()
    for parameter in model._get_adapters().values():
        parameter.requires_grad_(True)
    return model.train()


def hugging_face_input(batch: Batch) -> dict[str, Any]:
    source, padding_mask = batch["net_input"]["source"], batch["net_input"]["padding_mask"]
    return {"input_values": source, "attention_mask": (~padding_mask).long() if padding_mask.any() else None}


@torch.no_grad()
def check_equal(ours: LSAHModel, hugging_face: Any) -> None:
    """Stop unless both give the same logits for a padded batch of two utterances of the first language."""
    batch = make_batch([48_000, 39_999], 0, torch.Generator().manual_seed(1))
    same = batch["net_input"] | {"langs": torch.zeros(2, dtype=torch.int64), "keys": None}
    net_output = ours(**same)
    theirs = hugging_face(**hugging_face_input(batch)).logits
    for row, frames in enumerate((~net_output["padding_mask"]).sum(1).tolist()):
        torch.testing.assert_close(net_output["encoder_out"][:frames, row], theirs[row, :frames], atol=1e-4, rtol=1e-4)


# ---- training steps


def contest(size: str) -> list[Contestant]:
    """All contestants at one size, on the same weights."""
    cfg = make_model_config(size)
    ours = make_ours(cfg)
    state, head_size = one_language_state(ours), ours.adapters.heads.sizes[0]
    stock, hugging_face = make_stock(cfg, state, head_size), make_hugging_face(cfg, state, head_size)
    check_equal(ours, hugging_face)
    criterion = CTCCriterion(SimpleNamespace())
    stock_task = SimpleNamespace(target_dictionary=Dictionary())
    stock_criterion = CtcCriterion(CtcCriterionConfig(sentence_avg=True), stock_task)

    def ours_loss(batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = criterion(ours, batch)[0]
        return loss

    def stock_loss(batch: Batch) -> torch.Tensor:
        net_input = {name: batch["net_input"][name] for name in ("source", "padding_mask")}
        net_input["corpus_key"] = [0] * len(batch["id"])
        loss: torch.Tensor = stock_criterion(stock, batch | {"net_input": net_input})[0]
        return loss

    def hugging_face_loss(batch: Batch) -> torch.Tensor:
        labels = batch["target"].masked_fill(batch["target"] == Dictionary().pad(), -100)
        loss: torch.Tensor = hugging_face(**hugging_face_input(batch), labels=labels).loss
        return loss

    settings = {
        "adam_betas": [0.9, 0.98],
        "lr": [1e-5],
        "adam_eps": 1e-8,
        "weight_decay": 0.0,
        "fp16_adam_stats": False,
    }
    adam = LanguageAdam(OmegaConf.create(settings), list(ours.adapters.parameters()))
    training: dict[str, Any] = {"loss": ours_loss, "optimizer": adam, "clip": lambda: adam.clip_grad_norm(CLIP_NORM)}
    return [
        Contestant("ours, first epoch", **training, prepare=ours.encoder.cache.clear),
        Contestant("ours, later epochs", **training),
        make_peer("Hugging Face", hugging_face, hugging_face_loss),
        make_peer("stock fairseq", stock, stock_loss),
    ]


def make_peer(name: str, model: torch.nn.Module, loss: Callable[[Batch], torch.Tensor]) -> Contestant:
    """A peer with the optimizer of Hugging Face's Trainer."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    return Contestant(name, loss, adam, lambda: torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM))


# ---- measuring


def seconds_of_pass(contestant: Contestant, batches: list[Batch]) -> float:
    """Time one update per batch."""
    contestant.prepare()
    start = time.perf_counter()
    for batch in batches:
        contestant.loss(batch).backward()  # type: ignore[no-untyped-call]
        contestant.clip()
        contestant.optimizer.step()
        contestant.optimizer.zero_grad()
    return time.perf_counter() - start


def kept_bytes(contestant: Contestant, batch: Batch) -> int:
    """Bytes that autograd keeps for a batch's backward pass, parameters and their views not counted."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        owner = tensor if tensor._base is None else tensor._base
        if not isinstance(owner, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = contestant.loss(batch)
    del loss
    return sum(kept.values())


def measure(size: str, batches: list[Batch], repeats: int) -> list[str]:
    """Rows of the table."""
    contestants = contest(size)
    seconds = sum(int((~batch["net_input"]["padding_mask"]).sum()) for batch in batches) / audio.SAMPLE_RATE
    for contestant in contestants:  # warms up, and fills the cache
        seconds_of_pass(contestant, batches)
    speeds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant in contestants:
            speeds[contestant.name].append(seconds / seconds_of_pass(contestant, batches))
    medians = {name: statistics.median(speed) for name, speed in speeds.items()}
    return [
        f"| {size} | {contestant.name} | {medians[contestant.name]:.1f} | {min(speed):.1f} to {max(speed):.1f} "
        f"| {medians[contestant.name] / medians['Hugging Face']:.2f} "
        f"| {kept_bytes(contestant, batches[-1]) / 1e6:.0f} |"
        for contestant, speed in zip(contestants, speeds.values(), strict=True)
    ]


def machine() -> str:
    cpu, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        cpu = next((line.split(":")[1].strip() for line in info.open() if line.startswith("model name")), cpu)
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return (
        f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; {versions}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SIZES, "both"], default="both", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="passes of each contestant (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio per batch (default: %(default)s)")
    parser.add_argument("--batches", type=int, default=4, help="batches per pass (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch (default: %(default)s)")
    args = parser.parse_args()
    if not MALLOC.keys() <= os.environ.keys():  # they count from the start of a process
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | MALLOC)
    torch.set_num_threads(args.threads)
    batches = make_batches(args.seconds, args.batches)
    print(f"{machine()}\n")
    print("| size | who | audio seconds per second, median | range | against Hugging Face | kept for backward, MB |")
    print("|---|---|---:|---:|---:|---:|")
    for size in SIZES if args.size == "both" else [args.size]:
        for row in measure(size, batches, args.repeats):
            print(row, flush=True)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
