"""Commands as users type them, each in a process of its own that takes 0.2 s to start.

The processes are forked from one that has imported the package and has run nothing yet (multiprocessing's fork server):
threads of torch that ran before would hang in a fork.
"""

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import resource
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PRELOADED = (
    "forked",
    "mms_recipes.train",
    "mms_recipes.evaluate",
    "mms_recipes.tune",
    "mms_recipes.transcribe",
    "mms_recipes.identify",
    "mms_recipes.convert",
    "mms_recipes.report.__main__",
    "transformers.models.wav2vec2.modeling_wav2vec2",  # what convert imports late; 3 s
)

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(list(PRELOADED))
_ours = (str(REPOSITORY), str(REPOSITORY / "tools/bench"))
os.environ["PYTHONPATH"] = os.pathsep.join([*_ours, os.environ.get("PYTHONPATH", "")])


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (`HANGS`: still running after the limit) and all that it printed."""

    code: int
    output: str

    def is_refused(self) -> bool:
        """Whether it ended as a command ends that says what is to be mended."""
        return self.code == 1 and "Traceback" not in self.output

    @property
    def last_line(self) -> str:
        return ([line for line in self.output.splitlines() if line.strip()] or [""])[-1]


HANGS = -1000


Meanwhile = Callable[[int, Callable[[], str]], None]


def run(
    command: str,
    *arguments: object,
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    meanwhile: Meanwhile | None = None,
    memory: int = 0,
) -> Ended:
    """Run `python -m mms_recipes.COMMAND ARGUMENTS`, or a script of tools/ (`tools/name.py`); stdin is empty.

    `meanwhile` is called with the number of its process, which leads a group, and what reads its output so far.
    """
    named = tuple(map(str, arguments))
    return call(as_typed, command, named, timeout=timeout, environment=environment, meanwhile=meanwhile, memory=memory)


def call(
    function: Callable[..., Any],
    *arguments: Any,
    timeout: float = 120,
    environment: Mapping[str, str] | None = None,
    meanwhile: Meanwhile | None = None,
    memory: int = 0,
) -> Ended:
    """Call a function of a module in a process of its own as if it was a command: its int is the exit code.

    `memory`: bytes of address space that it may take beyond what the packages have taken; 0 is no limit.
    """
    with tempfile.NamedTemporaryFile() as output:
        inside = (output.name, dict(environment or {}), memory, function, arguments)
        process = _processes.Process(target=_inside, args=inside)
        process.start()
        try:
            if meanwhile is not None:
                meanwhile(process.pid or 0, lambda: Path(output.name).read_text(errors="backslashreplace"))
            process.join(timeout)
        except BaseException:
            process.kill()
            raise
        code = process.exitcode
        if code is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            code = HANGS
        return Ended(code, Path(output.name).read_text(encoding="utf-8", errors="backslashreplace"))


def _inside(
    output: str, environment: dict[str, str], memory: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.setsid()
    if memory:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, taken + memory))
    multiprocessing.set_start_method("fork", force=True)  # of data workers, as where a command starts by itself
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8", errors="surrogateescape")
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", force=True)
    code = 0
    try:
        found = function(*arguments)
        code = found if type(found) is int else 0
    except SystemExit as ended:
        code = ended.code if type(ended.code) is int else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 99
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 255)


def as_typed(command: str, arguments: tuple[str, ...]) -> Any:
    from mms_recipes import runner

    if command.startswith("tools/"):
        sys.path.insert(0, str(REPOSITORY / "tools"))
        sys.argv = [command, *arguments]
        return runpy.run_path(str(REPOSITORY / command), run_name="__main__")
    name = f"mms_recipes.{command}"
    with runner.errors_for_users():
        module = importlib.import_module(f"{name}.__main__" if command == "report" else name)
        sys.argv = [str(module.__file__), *arguments]
        return module.main()
