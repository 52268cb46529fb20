"""The whole chain on speech that espeak-ng speaks: corpus, manifests, pretraining, dense CTC, LSAH, language models.

    make demo        (or: python tools/demo.py [--minutes 20] [--out outputs])

Each step is a command that you can type yourself; it is printed before it runs, its log is kept, and a step that is
finished is not done again.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

from mms_recipes.report.scores import comparison_table

SHOWN = re.compile(r"\[(?:train_inner|mms_recipes\S*)\]\[\w+\] - (.*)|(\[\d+/\d+\].*|.*\d+%\|.*)")
UPDATE = re.compile(r"num_updates=(\d+)")
NARROW = ["decoding.beam_size=20", "decoding.beam_size_token=10", "finest=0.5"]  # seconds a language instead of minutes


def main() -> None:
    args = arguments()
    start = time.monotonic()
    out, data = args.out, args.data
    train = ["-m", "mms_recipes.train", f"task.data={data}", f"runs={out}"]
    steps = [
        ("speak a corpus", ["tools/speak_corpus.py", str(out / "demo_speech"), "--minutes", str(args.minutes)]),
        ("prepare manifests", ["tools/prepare_fleurs.py", str(out / "demo_speech"), str(data)]),
        ("pretrain wav2vec 2.0", [*train, "+experiment=demo_pretrain"]),
        ("fine-tune one dense model on all languages", [*train, "+experiment=demo_ctc"]),
        ("train adapters and heads of all languages (LSAH)", [*train, "+experiment=demo_lsah"]),
    ]
    dense, adapters, lms = out / "demo_ctc/checkpoints/checkpoint_best.pt", out / "demo_lsah/adapters", out / "demo_lms"
    tuned = [f"checkpoint={adapters}", f"data={data}", f"decoding.lm={lms}", f"out={out / 'demo_tuning'}"]
    steps += [
        ("language models of the training text", ["tools/build_lm.py", str(data), str(lms), "--from-manifests"]),
        ("tune their weights on dev", ["-m", "mms_recipes.tune", *tuned, *NARROW]),
    ]
    models: dict[str, tuple[Path, list[str]]] = {
        "dense": (dense, []),
        "LSAH": (adapters, []),
        "LSAH+LM": (adapters, ["decoding=lm", f"decoding.lm={lms}"]),
    }
    scores = {name: out / f"demo_scores_{name}" for name in models}
    for name, (model, decoding) in models.items():
        settings = [f"checkpoint={model}", f"data={data}", f"out={scores[name]}", f"name={name}", *decoding]
        steps.append((f"evaluate {name} on the test split", ["-m", "mms_recipes.evaluate", *settings]))
    page = out / "demo_report.html"
    steps.append(("a page to look at", ["-m", "mms_recipes.report", *map(str, scores.values()), "--out", str(page)]))
    out.mkdir(parents=True, exist_ok=True)
    for number, (title, command) in enumerate(steps, start=1):
        print(f"\n[{number}/{len(steps)}] {title}  ({(time.monotonic() - start) / 60:.1f} min so far)", flush=True)
        run([sys.executable, *command], out / f"demo_step{number}.log")
    print("\nTest split, voices that were not heard in training:\n")
    print(comparison_table({name: folder / "scores.json" for name, folder in scores.items()}))
    print(f"\nTo look at in a browser: {page}")
    print(f"Full reports (hypotheses, aligned errors): {', '.join(str(folder) for folder in scores.values())}")
    print(f"Took {(time.monotonic() - start) / 60:.1f} minutes")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder of the runs")
    parser.add_argument("--data", type=Path, default=Path("manifests/demo"), help="folder of the manifests")
    parser.add_argument("--minutes", type=float, default=20, help="training speech per language, minutes")
    return parser.parse_args()


def run(command: list[str], log: Path) -> None:
    """Run one step, show what tells how far it is, keep everything in its log; stop aloud when it fails."""
    print("  python " + " ".join(command[1:]), flush=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
        )
        assert process.stdout is not None
        for line in process.stdout:  # a progress bar's carriage returns come as lines of their own
            file.write(line)
            file.flush()
            if found := SHOWN.search(line):
                print("    " + shorten(found.group(1) or found.group(2)), flush=True)
    if process.wait() != 0:
        tail = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-30:])
        sys.exit(f"{tail}\nthis step ended with exit code {process.returncode}; all of its output: {log}")


def shorten(line: str) -> str:
    """Of fairseq's training lines keep what a newcomer can use."""
    if not (update := UPDATE.search(line)):
        return line.strip()[:150]
    fields = dict(part.split("=", 1) for part in re.findall(r"\w+=[-\w.]+", line))
    kept = [f"{name} {fields[name]}" for name in ("loss", "letter_loss", "accuracy", "minutes_left") if name in fields]
    return f"update {update.group(1)}: " + ", ".join(kept)


if __name__ == "__main__":
    main()
