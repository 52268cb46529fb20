"""A folder of recordings and tables of them, prepared as users do it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.known_issues import commands
from tests.known_issues.commands import Ended

RATE = 16_000


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder with a.wav, b.wav and c.wav of 1 to 3 s."""
    for number, name in enumerate("abc", start=1):
        soundfile.write(tmp_path / f"{name}.wav", tone(number), RATE)
    return tmp_path


def tone(seconds: float, hertz: float = 440) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


def prepare(folder: Path, table: str, content: str | bytes, *options: str) -> Ended:
    """Write the table and prepare it to `folder/out`, as English unless the options say otherwise."""
    (folder / table).write_bytes(content if isinstance(content, bytes) else content.encode())
    lang = [] if "--lang" in options else ["--lang", "eng"]
    return commands.run("tools/prepare_folder.py", folder / table, folder / "out", *lang, *options)


def words(folder: Path, lang: str = "eng", split: str = "train") -> list[str]:
    return (folder / f"out/{lang}/{split}.wrd").read_text().splitlines()
