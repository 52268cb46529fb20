"""What all tests share: threads, and the real speech that lies beside some checkouts."""

import os
import signal
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
MALLOC_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")

# Before torch is imported, and inherited by the commands that tests start; the tests' models do not fill more cores.
ARE_THREADS_GIVEN = "OMP_NUM_THREADS" in os.environ
os.environ.setdefault("OMP_NUM_THREADS", str(min(os.cpu_count() or 1, 4)))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other work, threads that spin take each other's time

# A shell that starts the tests in the background ignores Ctrl-C for them, and for all commands that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let processes side by side, which inherit the environment, have one thread each."""
    if not ARE_THREADS_GIVEN:
        os.environ["OMP_NUM_THREADS"] = "1"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = [name for name in MALLOC_VARIABLES if name not in os.environ]
    if missing and sys.platform == "linux":
        terminalreporter.write_line(
            f"{', '.join(missing)} not set: training tests can take several times longer; `make test` sets them"
        )


@pytest.fixture(scope="session")
def shared_speech() -> Path:
    """Real speech in FLEURS's layout (data/<code>/...); a test that asks for it is skipped where there is none."""
    folder = REPOSITORY.parent / "shared" / "speech"
    if not (folder / "data").is_dir():
        pytest.skip(f"no real speech at {folder}: this test did NOT run")
    return folder
