"""`python -m mms_recipes.status RUN [--watch] [--json]`: how far a run and each of its shards and languages are.

RUN is a run's folder (outputs/<name>). The exit status is 1 when a part of it has failed or was stopped.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mms_recipes import alignment
from mms_recipes.cluster import run_state
from mms_recipes.cluster.run_state import PENDING, RUNNING, State

FEW_LANGUAGES = 30  # up to so many are shown one by one without being asked for
COLUMNS = ("", "job", "state", "updates", "dev CER", "audio/s", "min left", "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--watch", action="store_true", help="show it again and again until nothing runs or waits")
    parser.add_argument("--seconds", type=float, default=5.0, help="how often to look when watching (default: 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object a look")
    parser.add_argument("--languages", action="store_true", help="every language, also where there are many")
    args = parser.parse_args(arguments)
    shown = ""
    while True:
        try:
            states = run_state.collect(args.run)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        text = as_json(args.run, states) if args.json else table(args.run, states, args.languages)
        if text != shown:
            clear = "\033[H\033[J" if args.watch and sys.stdout.isatty() and not args.json else ""
            print(clear + text, flush=True)
            shown = text
        if not args.watch or not any(state.state in (PENDING, RUNNING) for state in states):
            return int(any(state.state in (run_state.STOPPED, run_state.FAILED) for state in states))
        time.sleep(args.seconds)


def as_json(run: Path, states: Sequence[State]) -> str:
    """All that is known, as one line of JSON."""
    described = {"run": str(run), "states": Counter(state.state for state in states)}
    return json.dumps(described | {"parts": [state.as_json(run) for state in states]}, ensure_ascii=False)


def table(run: Path, states: Sequence[State], all_languages: bool = False) -> str:
    """A row for each part of the run, its languages below it, and a line that sums up."""
    each = all_languages or sum(len(state.told.langs) for state in states) <= FEW_LANGUAGES
    rows: list[tuple[str, ...]] = [COLUMNS]
    for state in states:
        rows.append(_row(run, state))
        if each and len(state.told.langs) > 1:
            rows += [_language_row(state, lang) for lang in state.told.langs]
    return "\n".join([*alignment.columns(rows, left=range(len(COLUMNS))), _sum(states)])


def _row(run: Path, state: State) -> tuple[str, ...]:
    told, runs = state.told, state.state == RUNNING
    langs = told.langs[0] if len(told.langs) == 1 else f"{len(told.langs)} languages" if told.langs else ""
    return (
        run_state.name(state.folder, run),
        state.job,
        state.state,
        f"{told.num_updates}/{told.max_update}" if told.max_update else "",
        _number(state.macro_cer, 2),
        _number(told.audio_per_second, 0) if runs else "",
        _number(told.minutes_left, 1) if runs else "",
        state.reason or langs,
    )


def _language_row(state: State, lang: str) -> tuple[str, ...]:
    return (f"  {lang}", "", "", "", _number(state.told.dev_cer.get(lang), 2), "", "", "")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _sum(states: Sequence[State]) -> str:
    counts = Counter(state.state for state in states)
    told = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    updates, last = (sum(getattr(state.told, key) for state in states) for key in ("num_updates", "max_update"))
    return f"{len(states)} run(s): {told}; {updates} of {last} updates" if last else f"{len(states)} run(s): {told}"


if __name__ == "__main__":
    sys.exit(main())
