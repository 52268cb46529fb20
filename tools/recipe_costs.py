"""Calculate what the experiments cost on GPUs: python tools/recipe_costs.py [EXPERIMENT ...] [--peak-tflops 312]

Counts the floating-point operations of one training step (forward, backward, and the forward pass again where
activations are recomputed) of each experiment's real model without memory for its weights, and multiplies by the audio
that the experiment sees. GPU hours = operations / (peak x utilisation): by calculation, nothing was measured. The
utilisation is an assumption; with a throughput that you measured, --audio-seconds-per-second takes the place of both.

Left out: heads, losses, optimizer and padding (small), layer drop and LSAH's cache (they save).
Prints a Markdown table.
"""

import argparse
import contextlib
import functools
import io
import math
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mms_recipes.plugins  # noqa: F401  (first: it silences fairseq's import)

# isort: split
import torch
from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Model
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mms_recipes import config, fairseq_compat, languages
from mms_recipes.manifest import SAMPLE_RATE
from mms_recipes.models.adapters import AdapterStack
from mms_recipes.models.encoder import FrozenEncoder

PEAK_TFLOPS = 312.0  # A100, dense bfloat16, by its data sheet
UTILISATION = 0.4  # an assumption; measure yours
UTTERANCE_SECONDS = 15.0  # attention grows with it: a 1B step costs a tenth more at 30 s
OPTIMIZER_BYTES = 12  # a parameter and Adam's two moments in float32
# the pretraining whose model an experiment starts from
PRETRAINED = {"demo": "demo_pretrain", "smoke": "smoke_pretrain"} | dict.fromkeys(("ctc", "lsah", "lid"), "pretrain_1b")
SMOKE_LANGS = 3  # of tests/smoke
# the smallest first, then in the order of the work
ORDER = ("smoke", "demo", "pretrain", "ctc", "lsah", "lid")
STEPS = ("pretrain", "ctc", "lsah", "lid")


@dataclass(frozen=True)
class Cost:
    """What one experiment takes."""

    experiment: str
    trained: int  # parameters that are trained, all languages together
    num_updates: int
    audio_hours: float  # of all updates
    flops: float  # per second of audio, mean over the updates

    def gpu_hours(self, flops_per_second: float) -> float:
        """Hours of one GPU that does so many operations a second."""
        return self.audio_hours * self.flops / flops_per_second

    def checkpoint_bytes(self) -> int:
        return OPTIMIZER_BYTES * self.trained


class NothingPadded(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Answer a question about values (is anything padded?) with no: a model of shapes only cannot."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return False
        return func(*args, **(kwargs or {}))


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        costs = [cost(name, args.utterance_seconds) for name in chosen(args.experiments)]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rate = args.peak_tflops * 1e12 * args.utilisation
    print(table(costs, rate, args.audio_seconds_per_second))
    print()
    if args.audio_seconds_per_second:
        print(f"GPU hours: from {args.audio_seconds_per_second:g} s of audio per second and GPU, as you measured.")
    else:
        print(
            f"GPU hours: by calculation, from a peak of {args.peak_tflops:g} TFLOP/s and a utilisation of "
            f"{args.utilisation:.0%}, which is assumed, not measured; utterances of {args.utterance_seconds:g} s."
        )
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", help="names of configs/experiment (default: all)")
    parser.add_argument("--peak-tflops", type=positive, default=PEAK_TFLOPS, help="of one GPU (default: %(default)g)")
    parser.add_argument(
        "--utilisation", type=positive, default=UTILISATION, help="share of it that is reached (default: %(default)g)"
    )
    parser.add_argument("--audio-seconds-per-second", type=positive, help="measured throughput of one GPU")
    parser.add_argument(
        "--utterance-seconds", type=positive, default=UTTERANCE_SECONDS, help="their length (default: %(default)g)"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{number:g}, expected more than 0")
    return number


def chosen(names: list[str]) -> list[str]:
    """Return the experiments asked for, or all; ValueError for one that is not there, or whose cost is not counted."""
    there = [path.stem for path in sorted((config.CONFIGS / "experiment").glob("*.yaml"))]
    counted = [name for name in there if family(name) in ORDER and step_of(name) in STEPS]
    if unknown := [name for name in names if name not in counted]:
        raise ValueError(f"{', '.join(unknown)}: no such experiment; there are {', '.join(counted)}")
    return names or sorted(counted, key=lambda name: (ORDER.index(family(name)), STEPS.index(step_of(name))))


def family(name: str) -> str:
    return name.split("_")[0]


def step_of(name: str) -> str:
    """Return pretrain, ctc, lsah or lid: what kind of training an experiment is, by its name (demo_ctc, ctc_fl102)."""
    return name.split("_")[1] if family(name) in ("demo", "smoke") else family(name)


@functools.cache
def composed(experiment: str) -> DictConfig:
    config.register()
    with initialize_config_dir(version_base="1.3", config_dir=str(config.CONFIGS)):
        return compose("train", overrides=[f"+experiment={experiment}"])


# ---- counting


def cost(experiment: str, seconds: float = UTTERANCE_SECONDS) -> Cost:
    """Count one experiment on utterances of so many seconds."""
    cfg = composed(experiment)
    pretraining = composed(PRETRAINED.get(family(experiment), experiment)).model
    source_1S = torch.empty(1, round(seconds * SAMPLE_RATE), device="meta")
    counts = {"pretrain": count_pretraining, "ctc": count_dense, "lsah": count_lsah, "lid": count_lid}
    trained, operations = counts[step_of(experiment)](cfg, pretraining, source_1S)
    langs = num_languages(cfg, experiment) if step_of(experiment) == "lsah" else 1
    hours = hours_per_update(cfg) * langs * cfg.optimization.max_update
    return Cost(experiment, trained * langs, cfg.optimization.max_update, hours, operations / seconds)


def count_pretraining(cfg: DictConfig, pretraining: DictConfig, source_1S: torch.Tensor) -> tuple[int, float]:
    """Return trained parameters and operations of a contrastive step: encoder, quantizer, negatives."""
    model = shapes(cfg.model)

    def step() -> Any:
        unmasked_1TC = features(model, source_1S, trained=True)
        x_1TC, _ = model.encoder(model.post_extract_proj(unmasked_1TC))
        masked = round(masked_share(cfg.model) * x_1TC.shape[1])
        targets = model.project_q(model.quantizer(unmasked_1TC[:, :masked], produce_targets=False)["x"])
        return model.final_proj(x_1TC[:, :masked]), targets

    masked = masked_share(cfg.model) * num_frames(model, source_1S)
    # the cosine with the target and each negative is no matrix product, so the counter does not see it
    negatives = 3 * 2 * masked * (cfg.model.num_negatives + 1) * cfg.model.final_dim
    return num_parameters(model), operations(step) + negatives


def count_dense(cfg: DictConfig, pretraining: DictConfig, source_1S: torch.Tensor) -> tuple[int, float]:
    """Return trained parameters and operations of a CTC step."""
    convolutions, head_updates = cfg.model.feature_grad_mult > 0, cfg.model.freeze_finetune_updates
    return count_fine_tuning(cfg, pretraining, source_1S, convolutions, head_updates)


def count_lid(cfg: DictConfig, pretraining: DictConfig, source_1S: torch.Tensor) -> tuple[int, float]:
    """Return trained parameters and operations of a step of language identification, on crops of task.max_seconds."""
    crop_1S = source_1S[:, : round(cfg.task.max_seconds * SAMPLE_RATE)]
    convolutions, head_updates = not cfg.model.freeze_features, cfg.model.freeze_updates
    trained, counted = count_fine_tuning(cfg, pretraining, crop_1S, convolutions, head_updates)
    return trained, counted * source_1S.shape[1] / crop_1S.shape[1]


def count_fine_tuning(
    cfg: DictConfig, pretraining: DictConfig, source_1S: torch.Tensor, convolutions: bool, head_updates: int
) -> tuple[int, float]:
    """Return parameters and operations of fine-tuning all of an encoder; in the first updates it is only run.

    `convolutions`: whether they are trained too.
    """
    model = shapes(pretraining, cfg.model.checkpoint_activations)
    model.remove_pretraining_modules()

    def step() -> Any:
        unmasked_1TC = features(model, source_1S, trained=convolutions)
        return model.encoder(model.post_extract_proj(unmasked_1TC))[0]

    with torch.no_grad():
        frozen = operations(step)
    share = min(1.0, head_updates / cfg.optimization.max_update)
    return num_parameters(model), share * frozen + (1 - share) * operations(step)


def count_lsah(cfg: DictConfig, pretraining: DictConfig, source_1S: torch.Tensor) -> tuple[int, float]:
    """Return one language's trained parameters and the operations of its step.

    Through the frozen base goes the gradient of the activations, but none of the weights.
    """
    encoder = FrozenEncoder(plain(pretraining)).to("meta")
    lengths_B, langs_B = torch.tensor([source_1S.shape[1]]), torch.zeros(1, dtype=torch.long, device="meta")
    with torch.device("meta"):
        stack = AdapterStack(["xxx"], [0], len(encoder.layers), encoder.dim, cfg.model.adapter_dim)

    def step() -> Any:
        features_1TC, frames_B = encoder.features(source_1S, lengths_B)
        return encoder.context(
            features_1TC,
            frames_B,
            after_block=lambda number, x_1TC: stack.blocks[number](x_1TC, langs_B),
            recompute=cfg.model.checkpoint_activations,
        )

    return num_parameters(stack), operations(step)


def operations(step: Callable[[], Any]) -> float:
    """Return the floating-point operations of the matrix products and convolutions of a step, backward included."""
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: convolution_backward})
    with counter, NothingPadded():  # type: ignore[no-untyped-call]
        out = step()
        outputs = [tensor for tensor in (out if isinstance(out, tuple) else (out,)) if tensor.requires_grad]
        if outputs:
            torch.autograd.backward(outputs, [torch.empty_like(tensor) for tensor in outputs])
    return float(counter.get_total_flops())


def convolution_backward(
    grad: list[int], x: list[int], weight: list[int], *settings: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    """Return the operations of a convolution's backward pass, from shapes.

    torch counts the gradient of the weights as if there were no groups: 16 times too much for MMS's positions.
    """
    of_input, of_weight, _ = settings[-1]
    return 2 * math.prod(grad) * math.prod(weight[1:]) * (int(of_input) + int(of_weight))


# ---- models


def plain(model: DictConfig, checkpoint_activations: bool = False) -> DictConfig:
    """Return a copy of a wav2vec 2.0 section without layer drop, which would count fewer blocks by chance."""
    changes = {"encoder_layerdrop": 0.0, "checkpoint_activations": checkpoint_activations}
    merged = OmegaConf.merge(model, changes)
    assert isinstance(merged, DictConfig)
    return merged


def shapes(model: DictConfig, checkpoint_activations: bool | None = None) -> Any:
    """Build a wav2vec 2.0 model without memory for its weights (checkpointed as its section says, unless told)."""
    recompute = model.checkpoint_activations if checkpoint_activations is None else checkpoint_activations
    with fairseq_compat.shapes_only(), contextlib.redirect_stdout(io.StringIO()):
        built = Wav2Vec2Model(plain(model, recompute)).train()
    return built.to("meta")  # fairseq makes the codewords on the CPU whatever the device


def features(model: Any, source_1S: torch.Tensor, trained: bool) -> Any:
    """Return the convolutions' output (1, T, C), normalised; `trained`: with a graph behind it."""
    with contextlib.nullcontext() if trained else torch.no_grad():
        features_1CT = model.feature_extractor(source_1S)
    return model.layer_norm(features_1CT.transpose(1, 2))


def num_frames(model: Any, source_1S: torch.Tensor) -> int:
    with torch.no_grad():
        return int(model.feature_extractor(source_1S).shape[2])


def masked_share(model: DictConfig) -> float:
    """Return the share of frames under masks: spans may overlap."""
    return float(1 - (1 - model.mask_prob / model.mask_length) ** model.mask_length)


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---- audio


def hours_per_update(cfg: DictConfig) -> float:
    """Return the audio of one update (of one language, in LSAH) in hours, by the recipe's batch."""
    if cfg.task._name == "mms_lsah":
        return float(cfg.task.update_seconds) / 3600
    if cfg.task.hours_per_update is not None:
        return float(cfg.task.hours_per_update)
    return float(cfg.dataset.max_tokens) / SAMPLE_RATE / 3600


def num_languages(cfg: DictConfig, experiment: str) -> int:
    """Return the languages that an experiment trains."""
    if cfg.task.langs:
        return len(languages.resolve(list(cfg.task.langs)))
    if family(experiment) == "smoke":
        return SMOKE_LANGS
    with (Path(__file__).parent / "speak_corpus.toml").open("rb") as file:
        return len(tomllib.load(file))


# ---- table


def table(costs: list[Cost], flops_per_second: float, audio_seconds_per_second: float | None = None) -> str:
    """Return the costs as Markdown; a measured throughput takes the place of the calculated speed."""
    head = ["experiment", "trained parameters", "updates", "audio, hours", "TFLOP per second of audio"]
    rows = [[*head, "GPU hours", "disk per checkpoint"], ["---", *["---:"] * 6]]
    for each in costs:
        speed = audio_seconds_per_second
        hours = each.audio_hours / speed if speed else each.gpu_hours(flops_per_second)
        rows.append(
            [
                each.experiment,
                f"{each.trained / 1e6:,.2f} M",
                f"{each.num_updates:,}",
                f"{each.audio_hours:,.{0 if each.audio_hours >= 100 else 1}f}",
                f"{each.flops / 1e12:.3g}",
                rounded(hours),
                size(each.checkpoint_bytes()),
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def rounded(hours: float) -> str:
    """Two digits are more than the assumption bears out."""
    return "under 0.01" if hours < 0.01 else f"{float(f'{hours:.2g}'):,g}"


def size(num_bytes: int) -> str:
    if num_bytes < 1e6:
        return "under 1 MB"
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
