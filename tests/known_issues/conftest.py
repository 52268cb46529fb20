"""Tests named by what a user saw. Commands run as users type them (commands.py), on tiny models (lab.py)."""

import pytest

from tests.known_issues import commands, lab


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> lab.Lab:
    """A corpus of tones, and a pretrained, a dense, an LSAH and an LID model of it. Copy what you change."""
    folder = tmp_path_factory.mktemp("lab")
    built = commands.call(lab.build, folder, timeout=600)
    assert built.code == 0, built.output
    return lab.Lab(folder)
