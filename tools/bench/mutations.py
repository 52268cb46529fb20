"""Changes to files, each drawn from a generator of random numbers: of their bytes, their lines, and what they hold."""

import copy
import io
import json
import random
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary

Place = tuple[Any, ...]
DEPTH = 10_000
MARK = "deep below here"  # a text in whose place lists in lists are written
MARKUP = "</script><img src=x onerror=alert(1)>"
HOSTILE: tuple[Any, ...] = (
    *(None, True, 7, -1, 0, 10**9, -(10**9), 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *("", "text", "7", "nan", "../../elsewhere", "/", "\x1b[31m\x07\x00", "\ud800", "\u202e\u200b", MARKUP),
    *("${oc.env:HOME}", "$(touch ran)", "a" * 1_000_000, "=SUM(1)", [], {}, [None], {"": None}, MARK),
)
CELLS = (
    *("", "-1", "0", "nan", "1e9", "9" * 40, "1.5", "../../elsewhere", "/etc/passwd", "\x1b[31m\x07", "\x00", "\u202e"),
    *(MARKUP, "a" * 1_000_000, "\t", "\r", '"', ",", "\ufeff", "ß", "\u0301", "|", "<s>", "#", "=SUM(1)", " "),
)


def shown(value: Any) -> str:
    """A value in a line of a report."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


# ---- bytes


def change_bytes(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Change bytes anywhere. Returns the new ones and what was done."""
    at = draw.randrange(len(data) + 1)
    size = draw.choice((1, 2, 16, 300))
    kind = draw.choice(
        ("flip a bit", "flip a bit", "put", "insert", "cut off", "take out", "zeros", "repeat", "append")
    )
    if kind == "flip a bit" and data:
        at, bit = draw.randrange(len(data)), draw.randrange(8)
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :], f"bit {bit} of byte {at} flipped"
    noise = draw.randbytes(size)
    made = {
        "put": data[:at] + noise + data[at + size :],
        "insert": data[:at] + noise + data[at:],
        "take out": data[:at] + data[at + size :],
        "zeros": data[:at] + bytes(size) + data[at + size :],
        "repeat": data[: at + size] + data[at:],
        "append": data + noise,
    }.get(kind, data[:at])
    return made, f"bytes: {kind}, {size} at {at} of {len(data)}"


def change_lines(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Change lines or cells of a text in UTF-8."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.choice(("twice", "exchange", "take out", "empty", "cell", "cell", "cell", "word", "join", "mark"))
    if kind == "twice":
        lines.insert(at, lines[at])
    elif kind == "exchange":
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "take out":
        del lines[at]
    elif kind == "empty":
        lines = [[], [""], ["", ""], [*lines, "", ""]][draw.randrange(4)]
    elif kind in ("cell", "word"):
        apart = next((sign for sign in "\t, " if sign in lines[at]), " ") if kind == "cell" else " "
        cells, put = lines[at].split(apart), draw.choice(CELLS)
        place = draw.randrange(len(cells))
        cells[place] = put if kind == "cell" else cells[place] + put
        lines[at] = apart.join(cells)
        kind = f"cell {place + 1}: {shown(put)}"
    elif kind == "join":
        lines[at : at + 2] = [" ".join(lines[at : at + 2])]
    else:
        lines[0] = draw.choice(("\ufeff", "\x00", "#", " ", "\t", "\r\n")) + lines[0]
    return "\n".join(lines).encode("utf-8", "surrogateescape"), f"line {at + 1}: {kind}"


def change_text(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Change a text: mostly its lines."""
    return (change_lines if draw.random() < 0.7 else change_bytes)(data, draw)


# ---- values


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield where values are: in dicts, lists, and objects of the classes that checkpoints hold."""
    if place:
        yield place
    if isinstance(value, Namespace | Dictionary):
        yield from places(vars(value), (*place, "__dict__"))
    elif isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from places(inner, (*place, number))


def change_value(root: Any, draw: random.Random, top: float = 0.2) -> tuple[Any, str]:
    """Change one value, name or tensor; with probability `top` one near the root, where few are."""
    root = copy.deepcopy(root)
    found = list(places(root))
    if not found:
        return draw.choice(HOSTILE), "all of it"
    near = [place for place in found if len(place) <= 2]
    place = draw.choice(near if near and draw.random() < top else found)
    holder = root
    for key in place[:-1]:
        holder = vars(holder) if key == "__dict__" else holder[key]
    key, where = place[-1], ".".join(map(str, place))[-100:]
    if key == "__dict__" or isinstance(holder, tuple):
        return (draw.choice(HOSTILE), "all of it") if draw.random() < 0.1 else change_value(root, draw, top)
    old, kind = holder[key], draw.choice(("put", "put", "put", "put", "delete", "rename", "near"))
    if kind == "delete":
        del holder[key]
    elif kind == "rename" and isinstance(holder, dict):
        new = draw.choice((f"{key}x", "", "\x1b[31m", MARKUP, "../x", "x" * 100_000))
        holder[new] = holder.pop(key)
        kind = f"rename to {shown(new)}"
    elif isinstance(old, torch.Tensor) and draw.random() < 0.8:
        holder[key], kind = change_tensor(old, draw)
    elif kind == "near" and type(old) in (int, float):
        holder[key] = draw.choice((-old, old + 1, old * 2, old * 10**9, float(old), str(old), [old]))
        kind = f"put {shown(holder[key])}"
    elif kind == "near" and isinstance(old, list) and old:
        holder[key] = draw.choice((old[::-1], old * 2, old[:-1], [*old, old[0]]))
        kind = "list in another order or length"
    elif kind == "near" and isinstance(old, str):
        holder[key] = draw.choice((old.upper(), old + " ", old[:-1], old + "\n", f"\u202e{old}", [old]))
        kind = f"put {shown(holder[key])}"
    else:
        holder[key] = draw.choice(HOSTILE)
        kind = f"put {shown(holder[key])}"
    return root, f"{where}: {kind}"


def change_tensor(old: torch.Tensor, draw: random.Random) -> tuple[Any, str]:
    """A tensor in another form, or with values that are no numbers."""
    made: dict[str, Callable[[], Any]] = {
        "no numbers": lambda: torch.full_like(old.float(), float(draw.choice(("nan", "inf", "-inf")))),
        "one no number": lambda: old.float().flatten().index_fill(0, torch.tensor([0]), float("nan")).view(old.shape),
        "whole numbers": lambda: old.to(torch.int64),
        "yes or no": lambda: old.bool(),
        "double": lambda: old.double(),
        "half": lambda: old.half(),
        "complex": lambda: old.to(torch.complex64),
        "flat": lambda: old.flatten(),
        "one less": lambda: old.flatten()[:-1].clone(),
        "empty": lambda: old.flatten()[:0].clone(),
        "one more dimension": lambda: old[None].clone(),
        "turned": lambda: old.T.clone() if old.dim() == 2 else old[..., None].clone(),
        "sparse": lambda: old.to_sparse(),
        "stretched": lambda: torch.zeros(1).expand(10**9),
    }
    kind = draw.choice([*made] if old.numel() else ["one more dimension", "stretched"])
    try:
        return made[kind](), f"tensor: {kind}"
    except (RuntimeError, IndexError):
        return None, "tensor: None"


def change_json(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Change a JSON file: a value, or its text."""
    if draw.random() < 0.15:
        return change_text(data, draw)
    value, said = change_value(json.loads(data), draw)
    if draw.random() < 0.03:
        text, said = json.dumps(value)[:-1] + draw.choice((', "a": 1, "a": 2}', "", ",}", "}}")), "another end"
    else:
        text = json.dumps(value, indent=1)
    return text.replace(f'"{MARK}"', "[" * DEPTH + "]" * DEPTH).encode(), said


# ---- formats of tensors


def change_safetensors(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Change the header, or texts of JSON inside it, or bytes."""
    if draw.random() < 0.3:
        return change_bytes(data, draw)
    (size,) = struct.unpack("<Q", data[:8])
    header, said = json.loads(data[8 : 8 + size]), "metadata"
    names = [*header.get("__metadata__", {})]
    if names and draw.random() < 0.6:
        name = draw.choice(names)
        try:
            inside = json.loads(header["__metadata__"][name])
        except json.JSONDecodeError:
            inside = header["__metadata__"][name]
        held, said = change_value({name: inside}, draw)
        if not isinstance(held, dict) or name not in held:
            del header["__metadata__"][name]
        else:
            header["__metadata__"][name] = json.dumps(held[name]).replace(f'"{MARK}"', "[" * DEPTH + "]" * DEPTH)
    else:
        header, said = change_value(header, draw)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :], said


def change_checkpoint(data: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Change a value of a .pt file, or bytes."""
    if draw.random() < 0.25:
        return change_bytes(data, draw)
    value, said = change_value(torch.load(io.BytesIO(data), weights_only=False), draw, top=0.4)
    file = io.BytesIO()
    torch.save(value, file)
    return (_deepened(file.getvalue()) if MARK in said else file.getvalue()), said


def _deepened(data: bytes) -> bytes:
    """A .pt file with lists in lists where the text `MARK` is."""
    text = MARK.encode()
    mark, made = b"X" + struct.pack("<I", len(text)) + text, io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        for part in old.infolist():
            content = old.read(part)
            if part.filename.endswith("data.pkl"):
                content = content.replace(mark, b"]" * DEPTH + b"a" * (DEPTH - 1))
            new.writestr(part.filename, content)
    return made.getvalue()


def change_file(path: Path, draw: random.Random) -> str:
    """Change a file by its kind, or leave another thing in its place. Returns what was done."""
    if draw.random() < 0.02:
        path.unlink()
        kind = draw.choice(("gone", "a folder", "a link to itself"))
        if kind == "a folder":
            path.mkdir()
        elif kind == "a link to itself":
            path.symlink_to(path.name)
        return kind
    change = {".json": change_json, ".safetensors": change_safetensors, ".pt": change_checkpoint}.get(path.suffix)
    if change is None:
        change = change_bytes if path.suffix in BINARY or b"\0" in path.read_bytes()[:1000] else change_text
    data, said = change(path.read_bytes(), draw)
    path.write_bytes(data)
    return said


BINARY = (".wav", ".flac", ".ogg", ".mp3", ".tar", ".zip", ".gz")
