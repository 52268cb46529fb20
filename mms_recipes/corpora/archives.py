"""Archives of audio, read from begin to end as they are; nothing is unpacked to disk."""

import bz2
import gzip
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from mms_recipes.sound import stores

CHUNK = 1 << 20


class DamagedError(ValueError):
    """An archive that ends too early, or of which a checksum is wrong: nothing that came out of it can be trusted."""


def read(archive: Path, wanted: frozenset[str], say: Callable[[str], None]) -> Iterator[tuple[str, bytes]]:
    """Yield (file name, contents) of the wanted files of a tar archive, compressed or not.

    Only regular files count, and only under names that stay inside; others are refused with a line to ``say``. Raises
    DamagedError, after some files maybe: the checksum of the whole stands at its end.
    """
    try:
        stores.require_regular(archive)
        with archive.open("rb") as packed, _unpacked(packed) as plain:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for member in tar:
                    path = PurePosixPath(member.name)
                    if member.isdir():
                        continue
                    if not member.isreg() or path.is_absolute() or ".." in path.parts:
                        say(f"{archive}: refused {member.name!r}: not a regular file inside the archive's folder")
                    elif path.name in wanted and (file := tar.extractfile(member)):
                        yield path.name, file.read()
            while plain.read(CHUNK):  # tarfile stops before the checksum
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DamagedError(f"{archive}: cut off or damaged ({error}); get the file again") from None


def _unpacked(packed: IO[bytes]) -> IO[bytes]:
    """Return an archive without its compression; reading it checks the checksums that it carries."""
    head = packed.read(6)
    packed.seek(0, os.SEEK_SET)
    if head[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(packed))
    if head[:3] == b"BZh":
        return cast(IO[bytes], bz2.open(packed))
    return cast(IO[bytes], lzma.open(packed)) if head == b"\xfd7zXZ\0" else packed
