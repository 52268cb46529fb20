"""Build KenLM's programs lmplz and build_binary from PyPI's source, without root: python tools/build_kenlm.py .kenlm

DEST/bin gets the programs and DEST/lib the Boost libraries that they need; the folder can be moved. What they are
made with (CMake, ninja, Boost) comes from PyPI too and lies in DEST/build, which may be deleted afterwards. Needed here
are a C++ compiler and pip. What is finished is not done again. tools/build_lm.py finds the programs in .kenlm of the
checkout, where `make kenlm` puts them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from mms_recipes import files
from mms_recipes.decoding.language_model import PAPER_ORDER

KENLM = "kenlm==0.3.0"
SDIST = "kenlm-0.3.0.tar.gz"
SHA256 = "c4628bb9fb63c8a6f9240035b8b037385cfc404cb72e933cf48878291edac1e8"
# Boost 1.89 dropped the component boost_system, which KenLM asks for. Without their dependencies, which are numpy and
# a package that helps to find the folder.
TOOLS = ("cmake>=3.20", "ninja", "cmeel-boost<1.89")
# With a limited vocabulary, lmplz looks at what lies behind its last block of n-grams, and crashes unless that is zero.
PATCHED = "lm/builder/adjust_counts.cc"
FOUND = "        StartBlock();\n"
MENDED = f"{FOUND}        if (!block_) return *this;\n"
PROGRAMS = ("lmplz", "build_binary")
MAX_ORDER = PAPER_ORDER  # KenLM's own default is 6
SHOWN = 15  # last lines of a command that failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dest", type=Path, help="folder to build in and to install to")
    parser.add_argument("--max-order", type=int, default=MAX_ORDER, help="of the n-grams (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files compiled at once")
    args = parser.parse_args(arguments)
    try:
        build(args.dest.resolve(), args.max_order, args.jobs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build(dest: Path, max_order: int, jobs: int) -> None:
    """Fetch, unpack, compile and install, each unless it is done."""
    check_arguments(max_order, jobs)
    receipt, wanted = dest / "built.txt", f"{KENLM} patched max_order={max_order}\n"
    if receipt.is_file() and receipt.read_text() == wanted and all(map(runs, programs(dest))):
        print(f"{dest / 'bin'}: finished before ({wanted.strip()})")
        return
    compiler = find_compiler()
    work = dest / "build"
    work.mkdir(parents=True, exist_ok=True)
    print(f"[1/4] {KENLM} from PyPI", flush=True)
    sdist = fetch_source(work, KENLM, SDIST, SHA256)
    print(f"[2/4] {', '.join(TOOLS)} from PyPI, 60 MB", flush=True)
    tools = fetch_tools(work / "tools", TOOLS)
    print(f"[3/4] compile with {compiler}, half a minute on two cores", flush=True)
    unpack(sdist, work / "source")
    patch(work / "source" / PATCHED)
    compile_kenlm(work, tools, max_order, jobs, PROGRAMS)
    print(f"[4/4] install to {dest}", flush=True)
    install(dest, work, tools)
    files.write_text(receipt, wanted)
    print(f"{', '.join(map(str, programs(dest)))}: up to {max_order}-grams")


def check_arguments(max_order: int, jobs: int) -> None:
    if not 2 <= max_order <= 99 or jobs < 1:
        raise ValueError(f"--max-order {max_order} --jobs {jobs}: expected an order of 2 to 99, and 1 job or more")


def programs(dest: Path) -> list[Path]:
    return [dest / "bin" / name for name in PROGRAMS]


def runs(program: Path) -> bool:
    """Say whether a program starts: that it is there, complete, and finds its libraries."""
    try:
        # without arguments both explain themselves; a library that is not found is 127, a signal is negative
        status = subprocess.run([program], stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode
    except OSError:
        return False
    return 0 <= status < 126


def find_compiler() -> str:
    """Return the C++ compiler that CMake will take; FileNotFoundError when there is none."""
    names = [os.environ["CXX"].split()[0]] if os.environ.get("CXX", "").strip() else ["c++", "g++", "clang++"]
    for name in names:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(
        f"no C++ compiler found ({', '.join(names)}), and KenLM has to be compiled; install one (Debian and Ubuntu: "
        "package g++), or put lmplz and build_binary on PATH, which tools/build_lm.py then uses"
    )


def fetch_source(work: Path, requirement: str, name: str, sha256: str) -> Path:
    """Return a source archive of PyPI, fetched unless it is there; ValueError when it is not the one that is known."""
    sdist = work / name
    if not sdist.is_file() or files.sha256(sdist) != sha256:
        sdist.unlink(missing_ok=True)
        package = requirement.partition("==")[0]
        call([*pip("download"), "--no-deps", "--no-binary", package, "--dest", work, requirement], "the source")
    if (found := files.sha256(sdist)) != sha256:
        raise ValueError(f"{sdist}: SHA-256 is {found}, expected {sha256}; delete it and ask where it came from")
    return sdist


def fetch_tools(tools: Path, requirements: Sequence[str]) -> Path:
    """Return `tools`, the folder with these packages, fetched unless they are all there."""
    done = tools.with_suffix(".txt")
    if not done.is_file() or done.read_text() != " ".join(requirements):
        shutil.rmtree(tools, ignore_errors=True)
        options = ["--no-deps", "--only-binary", ":all:", "--target", tools]
        call([*pip("install"), *options, *requirements], "the build tools")
        files.write_text(done, " ".join(requirements))
    return tools


def pip(command: str) -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet"]


def unpack(archive: Path, folder: Path) -> None:
    """Write the files of an archive to `folder`, without its top folder; ValueError when one would lie outside."""
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts
            if member.isdir():
                continue
            if not member.isreg() or member.name.startswith("/") or ".." in parts or len(parts) < 2:
                raise ValueError(f"{archive}: refused {member.name!r}: not a regular file inside the archive's folder")
            path = part.joinpath(*parts[1:])
            path.parent.mkdir(parents=True, exist_ok=True)
            content = tar.extractfile(member)
            assert content is not None
            path.write_bytes(content.read())
    os.replace(part, folder)  # whole from now on, so that compiling goes on where it was stopped


def patch(source: Path) -> None:
    """Mend KenLM's source, unless that is done; ValueError when it is not the source that is known."""
    code = source.read_text(encoding="utf-8")
    if MENDED not in code:
        if code.count(FOUND) != 1:
            raise ValueError(f"{source}: not as in {KENLM}; delete the folder of the source and begin anew")
        files.write_text(source, code.replace(FOUND, MENDED))


def compile_kenlm(work: Path, tools: Path, max_order: int, jobs: int, targets: Sequence[str]) -> None:
    """Compile programs into work/make/bin and the libraries that they consist of into work/make/lib."""
    settings = {
        "CMAKE_PREFIX_PATH": tools / "cmeel.prefix",
        "CMAKE_INSTALL_RPATH": "$ORIGIN/../lib" if sys.platform != "darwin" else "@loader_path/../lib",
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "ENABLE_INTERPOLATE": "OFF",
        "KENLM_MAX_ORDER": max_order,
    }
    # text and models come to KenLM uncompressed, so what it is linked with need not include these
    settings |= {f"CMAKE_DISABLE_FIND_PACKAGE_{name}": "ON" for name in ("ZLIB", "BZip2", "LibLZMA")}
    compile_with_cmake(work / "source", work / "make", tools, settings, jobs, targets)


def compile_with_cmake(
    source: Path, make: Path, tools: Path, settings: Mapping[str, object], jobs: int, targets: Sequence[str] = ()
) -> None:
    """Configure and compile into `make`; what is up to date there is not compiled again."""
    cmake = tools / "cmake" / "data" / "bin" / "cmake"  # the program itself: the script beside it needs an environment
    settings = {"CMAKE_BUILD_TYPE": "Release", "CMAKE_MAKE_PROGRAM": tools / "bin" / "ninja", **settings}
    options = [f"-D{name}={value}" for name, value in settings.items()]
    configured = [cmake, "-G", "Ninja", "-S", source, "-B", make, *options]
    call(configured, f"CMake (after a move or a change of compiler, begin anew: rm -r {make.parent})")
    command = [cmake, "--build", make, "--parallel", jobs, *(f"--target={name}" for name in targets)]
    call(command, "the compiler", progress=re.compile(r"^\[(\d+)/(\d+)\]"))


def install(dest: Path, work: Path, tools: Path) -> None:
    """Put the libraries and then the programs in place, and see that they run."""
    for name in ("bin", "lib"):
        (dest / name).mkdir(exist_ok=True)
    for library in sorted((tools / "cmeel.prefix" / "lib").glob("libboost_*")):
        if re.match(r"libboost_(program_options|system|thread|atomic|chrono)\.(so\.|dylib)", library.name):
            copy(library, dest / "lib" / library.name)
    for program in programs(dest):
        copy(work / "make" / "bin" / program.name, program)
        if not runs(program):
            raise ValueError(f"{program}: was built, but does not run here; the log is above, begin anew: rm -r {work}")


def copy(source: Path, target: Path) -> None:
    with files.replaced(target) as temporary:
        shutil.copy2(source, temporary)


def call(command: Sequence[object], what: str, progress: re.Pattern[str] | None = None) -> None:
    """Run a command; OSError with its last lines when it fails. `progress` finds (done, all) in a line."""
    arguments = list(map(str, command))
    lines: list[str] = []
    process = subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    with tqdm(disable=progress is None, desc="compiling", unit="file") as bar:
        for line in process.stdout:
            lines.append(line.rstrip())
            if progress and (found := progress.match(line)):
                bar.total = int(found[2])
                bar.update(int(found[1]) - bar.n)
    if status := process.wait():
        last = "\n  ".join(lines[-SHOWN:])
        raise OSError(f"{what} failed (exit code {status}):\n  {last}\nThe command was: {' '.join(arguments)}")


if __name__ == "__main__":
    sys.exit(main())
