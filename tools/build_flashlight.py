"""Build and install flashlight-text with a KenLM for n-grams up to order 20: python tools/build_flashlight.py .kenlm

PyPI's wheels of flashlight-text read models up to order 6; the paper's letter models and Meta's released ones are
20-grams. Both sources and what they are compiled with come from PyPI, as in tools/build_kenlm.py, whose folder this
uses; needed here are a C++ compiler, Python's headers and pip. DEST gets the wheel, which is installed into this
environment in place of PyPI's; `pip install --force-reinstall flashlight-text` goes back. What is finished is not done
again.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import os
import re
import sys
import sysconfig
import zipfile
from pathlib import Path

import build_kenlm
from build_kenlm import call, pip

from mms_recipes import files

FLASHLIGHT = "flashlight-text==0.0.7"
SDIST = "flashlight-text-0.0.7.tar.gz"
SHA256 = "fb63779b4b642c0c59e66386f43db8357836ed1be82b49d30155f7c39136d836"
PYBIND = ("pybind11==2.13.6",)
PACKAGE = "flashlight/lib/text"

# What CMake reads where flashlight-text looks for KenLM.
KENLM_CONFIG = """\
add_library(kenlm::kenlm INTERFACE IMPORTED)
target_include_directories(kenlm::kenlm INTERFACE "{source}")
target_link_libraries(kenlm::kenlm INTERFACE "{make}/lib/libkenlm.a" "{make}/lib/libkenlm_util.a")
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dest", type=Path, help="folder to build in, the same as tools/build_kenlm.py's")
    parser.add_argument("--max-order", type=int, default=build_kenlm.MAX_ORDER, help="of models (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files compiled at once")
    args = parser.parse_args(arguments)
    try:
        build(args.dest.resolve(), args.max_order, args.jobs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build(dest: Path, max_order: int, jobs: int) -> None:
    """Fetch, unpack, compile, pack and install, each unless it is done."""
    build_kenlm.check_arguments(max_order, jobs)
    version = f"{FLASHLIGHT.partition('==')[2]}+order{max_order}"
    if installed_version() == version:
        print(f"flashlight-text {version}: installed before")
        return
    wheel = dest / f"flashlight_text-{version}-{tag()}.whl"
    if not wheel.is_file():
        compiler = build_kenlm.find_compiler()
        work = dest / "build"
        work.mkdir(parents=True, exist_ok=True)
        print(f"[1/4] {build_kenlm.KENLM}, {FLASHLIGHT}, {', '.join(build_kenlm.TOOLS + PYBIND)} from PyPI", flush=True)
        tools, pybind = fetch(work)
        print(f"[2/4] KenLM with {compiler}, for up to {max_order}-grams", flush=True)
        build_kenlm.compile_kenlm(work, tools, max_order, jobs, ("kenlm",))
        print("[3/4] flashlight-text, half a minute on two cores", flush=True)
        compile_flashlight(work, tools, pybind, max_order, jobs)
        pack(wheel, work / "flashlight", work / "flashlight_libraries", version)
    print(f"[4/4] install {wheel}", flush=True)
    call([*pip("install"), "--no-deps", "--force-reinstall", wheel], "the installation")
    print(f"flashlight-text {version} reads models up to order {max_order}")


def installed_version() -> str:
    try:
        return importlib.metadata.version("flashlight-text")
    except importlib.metadata.PackageNotFoundError:
        return ""


def tag() -> str:
    """Return the tag of wheels for this interpreter and machine, such as cp311-cp311-linux_x86_64."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return f"{python}-{python}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def fetch(work: Path) -> tuple[Path, Path]:
    """Fetch and unpack the sources; return the folders of the build tools and of pybind11."""
    kenlm = build_kenlm.fetch_source(work, build_kenlm.KENLM, build_kenlm.SDIST, build_kenlm.SHA256)
    build_kenlm.unpack(kenlm, work / "source")
    build_kenlm.patch(work / "source" / build_kenlm.PATCHED)
    build_kenlm.unpack(build_kenlm.fetch_source(work, FLASHLIGHT, SDIST, SHA256), work / "flashlight")
    tools = build_kenlm.fetch_tools(work / "tools", build_kenlm.TOOLS)
    return tools, build_kenlm.fetch_tools(work / "pybind", PYBIND)


def compile_flashlight(work: Path, tools: Path, pybind: Path, max_order: int, jobs: int) -> None:
    """Compile the extension modules and their libraries into work/flashlight_libraries, linked with KenLM's."""
    config = work / "flashlight_kenlm"
    config.mkdir(exist_ok=True)
    text = KENLM_CONFIG.format(source=(work / "source").as_posix(), make=(work / "make").as_posix())
    (config / "kenlmConfig.cmake").write_text(text, encoding="utf-8")
    settings = {
        "BUILD_SHARED_LIBS": "ON",
        "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
        "CMAKE_INSTALL_RPATH": "$ORIGIN" if sys.platform != "darwin" else "@loader_path",
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": work / "flashlight_libraries",
        "FL_TEXT_BUILD_PYTHON": "ON",
        "FL_TEXT_BUILD_PYTHON_PACKAGE": "ON",
        "FL_TEXT_BUILD_STANDALONE": "OFF",
        "FL_TEXT_BUILD_TESTS": "OFF",
        "FL_TEXT_KENLM_MAX_ORDER": max_order,
        "Python3_EXECUTABLE": sys.executable,
        "kenlm_DIR": config,
        "pybind11_DIR": pybind / "pybind11" / "share" / "cmake" / "pybind11",
    }
    build_kenlm.compile_with_cmake(work / "flashlight", work / "flashlight_make", tools, settings, jobs)


def pack(wheel: Path, source: Path, libraries: Path, version: str) -> None:
    """Write the wheel: Python files of the source, and every library once, under the name that others load it by."""
    package, info = source / "bindings" / "python" / PACKAGE, f"flashlight_text-{version}.dist-info"
    contents = {f"{PACKAGE}/{path.relative_to(package)}": path.read_bytes() for path in sorted(package.rglob("*.py"))}
    modules = [path for path in libraries.iterdir() if path.name.startswith("flashlight_lib_")]
    linked = [path for path in libraries.iterdir() if path.name.endswith((".so.0", ".0.dylib"))]
    if len(modules) != 3 or len(linked) != 2:
        found = ", ".join(sorted(path.name for path in libraries.iterdir()))
        raise ValueError(f"{libraries}: expected 3 modules and 2 libraries, found {found}; begin anew: rm -r {source}")
    contents |= {f"{PACKAGE}/{path.name}": path.read_bytes() for path in sorted(modules + linked)}
    described = (source / "PKG-INFO").read_text(encoding="utf-8")
    contents[f"{info}/METADATA"] = re.sub(r"(?m)^Version: .*$", f"Version: {version}", described, count=1).encode()
    contents[f"{info}/LICENSE"] = (source / "LICENSE").read_bytes()
    described = f"Wheel-Version: 1.0\nGenerator: {Path(__file__).name}\nRoot-Is-Purelib: false\nTag: {tag()}\n"
    contents[f"{info}/WHEEL"] = described.encode()
    contents[f"{info}/RECORD"] = record(contents, f"{info}/RECORD").encode()
    with files.replaced(wheel) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


def record(contents: dict[str, bytes], own_name: str) -> str:
    """Return a wheel's list of files with checksums and sizes; its own line has neither."""
    lines = []
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "".join(f"{line}\n" for line in [*lines, f"{own_name},,"])


if __name__ == "__main__":
    sys.exit(main())
