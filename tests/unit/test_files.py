import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mms_recipes import files
from tests.unit import disks


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_files_are_for_all_whom_the_umask_allows(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "a")
    with files.replaced(tmp_path / "b.safetensors") as temporary:
        temporary.chmod(0o600)  # as safetensors does
    with files.replaced(tmp_path / "program") as temporary:
        temporary.chmod(0o755)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"a.txt": 0o644, "b.safetensors": 0o644, "program": 0o755}


@pytest.mark.parametrize("sync", [True, False])
def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path, sync: bool) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with files.replaced(target, sync) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old" and temporary.parent == tmp_path  # the same disk
        assert not temporary.match("*.txt"), "a reader of *.txt must not meet the temporary file"
    assert target.read_text() == "half" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)), files.replaced(target) as temporary:
        temporary.write_text("half")
        raise error
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"File too large: '.*/a\.txt'$"), disks.full(1000):
        files.write_text(tmp_path / "a.txt", "a" * 5000)
    assert not list(tmp_path.iterdir())


def test_two_writers_at_once_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with files.replaced(tmp_path / "a.txt") as one, files.replaced(tmp_path / "a.txt") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.txt").read_text() == "one" and os.listdir(tmp_path) == ["a.txt"]


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "é\r\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\nb\n"


def test_read_only_files_are_synced_too(tmp_path: Path) -> None:
    with files.replaced(tmp_path / "lib.so") as temporary:
        temporary.write_bytes(b"x")
        temporary.chmod(0o555)
    assert (tmp_path / "lib.so").read_bytes() == b"x"


def test_sha256_of_a_file(tmp_path: Path) -> None:
    content = bytes(3_000_000)
    (tmp_path / "a").write_bytes(content)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
