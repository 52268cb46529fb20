"""A base of the same weights whose configuration changes its output is another base: its adapters are refused on it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.known_issues import commands
from tests.known_issues.lab import Lab


def change(source: Path, target: Path, section: str, key: str, value: Any) -> Path:
    """A copy of a dense model whose encoder's configuration has another value."""
    state = torch.load(source, weights_only=False)
    inside = state["cfg"]["model"]["w2v_args"][section]
    inside[key] = value(inside[key]) if callable(value) else value
    torch.save(state, target)
    return target


def forget_settings(source: Path, target: Path, base: Path) -> Path:
    """Adapters as they were written before their headers held the settings of their base."""
    target.mkdir()
    for path in source.glob("*.safetensors"):
        with safetensors.safe_open(path, "pt") as file:
            header = dict(file.metadata())
        header = {key: value for key, value in header.items() if key not in ("base_settings", "base_beside")}
        header["base_path"] = json.dumps(str(base))
        safetensors.torch.save_file(safetensors.torch.load_file(path), target / path.name, header)
    return target


CHANGES: list[tuple[str, str, Any]] = [
    ("task", "normalize", lambda value: not value),
    ("model", "encoder_attention_heads", lambda heads: heads * 2),
    ("model", "layer_norm_first", lambda value: not value),
    ("model", "activation_fn", "relu"),
    ("model", "conv_feature_layers", lambda text: text.replace(", 4)", ", 3)")),
]


@pytest.mark.parametrize(
    ("old", "section", "key", "value"), [(True, *CHANGES[0]), *((False, *change) for change in CHANGES)]
)
def test_adapters_on_the_same_weights_in_other_settings(
    old: bool, section: str, key: str, value: Any, tiny: Lab, tmp_path: Path
) -> None:
    adapters = forget_settings(tiny.adapters, tmp_path / "old", tiny.dense) if old else tiny.adapters
    other = change(tiny.dense, tmp_path / "other.pt", section, key, value)
    given = (f"checkpoint={adapters}", f"data={tiny.data}", "langs=[eng]")
    ended = commands.run("evaluate", *given, f"base={other}", f"out={tmp_path / 'out'}")
    assert ended.is_refused() and key in ended.last_line and "eng.safetensors" in ended.last_line, ended.output
    converted = commands.run("convert", adapters, tmp_path / "one.pt", "--to", "fairseq", "--base", other)
    assert converted.is_refused() and key in converted.last_line, converted.output


def test_old_adapters_whose_base_was_moved_are_taken(tiny: Lab, tmp_path: Path) -> None:
    adapters = forget_settings(tiny.adapters, tmp_path / "old", tmp_path / "gone.pt")
    moved = shutil.copy(tiny.dense, tmp_path / "moved.pt")
    given = (f"checkpoint={adapters}", f"data={tiny.data}", "langs=[eng]")
    ended = commands.run("evaluate", *given, f"base={moved}", f"out={tmp_path / 'out'}")
    assert ended.code == 0, ended.output
