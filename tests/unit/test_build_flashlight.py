"""The wheel that tools/build_flashlight.py makes; what its KenLM reads is asked in test_beam.py."""

import subprocess
import sys
import zipfile
from pathlib import Path

import build_flashlight
import pytest


@pytest.fixture
def compiled(tmp_path: Path) -> tuple[Path, Path]:
    """A source as flashlight-text's, and what was compiled of it, links included."""
    source, libraries = tmp_path / "source", tmp_path / "libraries"
    package = source / "bindings" / "python" / build_flashlight.PACKAGE
    (package / "decoder").mkdir(parents=True)
    (package / "__init__.py").write_text("name = 'text'\n")
    (package / "decoder" / "__init__.py").write_text("")
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: flashlight-text\nVersion: 0.0.7\n\nText.\n")
    (source / "LICENSE").write_text("MIT\n")
    libraries.mkdir()
    for name in ("decoder", "dictionary", "decoder_kenlm"):
        (libraries / f"flashlight_lib_text_{name}.cpython.so").write_bytes(name.encode())
    for name in ("libflashlight-text", "libflashlight-text-kenlm"):
        (libraries / f"{name}.so.0.0.4").write_bytes(name.encode())
        (libraries / f"{name}.so.0").symlink_to(f"{name}.so.0.0.4")
        (libraries / f"{name}.so").symlink_to(f"{name}.so.0")
    return source, libraries


def test_pip_installs_the_wheel(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = tmp_path / f"flashlight_text-0.0.7+order20-{build_flashlight.tag()}.whl"
    build_flashlight.pack(wheel, *compiled, "0.0.7+order20")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum("libflashlight" in name for name in names) == 2 and len(names) == len(set(names))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
    subprocess.run([*command, str(tmp_path / "site"), str(wheel)], check=True)
    package = tmp_path / "site" / build_flashlight.PACKAGE
    assert (package / "libflashlight-text-kenlm.so.0").read_bytes() == b"libflashlight-text-kenlm"
    metadata = (tmp_path / "site" / "flashlight_text-0.0.7+order20.dist-info" / "METADATA").read_text()
    assert "\nVersion: 0.0.7+order20\n" in metadata


def test_a_build_that_lacks_a_library_is_not_packed(compiled: tuple[Path, Path], tmp_path: Path) -> None:
    source, libraries = compiled
    (libraries / "libflashlight-text-kenlm.so.0").unlink()
    with pytest.raises(ValueError, match=r"expected 3 modules and 2 libraries, found .*begin anew: rm -r"):
        build_flashlight.pack(tmp_path / "some.whl", source, libraries, "0.0.7+order20")
    assert not list(tmp_path.glob("*.whl"))


def test_an_order_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build_flashlight.main([str(tmp_path), "--max-order", "1"]) == 1
    assert "expected an order of 2 to 99" in capsys.readouterr().err
