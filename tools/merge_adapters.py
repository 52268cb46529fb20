"""Collect the adapters of a run and its shards into one checkpoint, laid out as Meta's mms1b_l1107.pt and its like.

    python tools/merge_adapters.py outputs/lsah_1107 lsah.pt [--base BASE.pt]

The file holds the base and, under `adapter`, each language's tensors and letters under fairseq's own names: stock
fairseq's infer.py reads it, and so does `python -m mms_recipes.evaluate checkpoint=lsah.pt`. Beside it, lsah.tsv has
the dev CER and the updates of every language. A run that is not done, or lacks a language, is refused; --allow-missing
takes what there is. A folder of adapter files (outputs/demo_lsah/adapters) is taken as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from mms_recipes import adapter_files, checkpoints, files, languages
from mms_recipes.adapter_files import Adapter
from mms_recipes.cluster import run_state

SHOWN = 20


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", type=Path, help="folder of a run (outputs/<name>), or of adapter files")
    parser.add_argument("out", type=Path, help="checkpoint to write (.pt)")
    parser.add_argument("--base", type=Path, help="the adapters' base, if it moved since training")
    parser.add_argument("--allow-missing", action="store_true", help="also when a language or shard is not done")
    args = parser.parse_args(arguments)
    try:
        folders, problems = find(args.adapters)
        adapters = read(folders)
        if problems and not args.allow_missing:
            raise ValueError(f"{args.adapters}: {'; '.join(problems)}. Finish them, or add --allow-missing")
        by_lang = {adapter.lang: adapter for adapter in adapters}
        base = adapter_files.find_base(by_lang, checkpoints.read_base, args.base, "--base FILE")
        adapter_files.write_one_file(args.out, base, adapters)
        files.write_text(args.out.with_suffix(".tsv"), table(adapters))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in problems:
        print(f"merged although {problem}", file=sys.stderr)
    print(f"{args.out}: base {base.hash} and {len(adapters)} languages, {args.out.stat().st_size / 1e6:.1f} MB")
    print(summary(adapters))
    return 0


def find(folder: Path) -> tuple[list[Path], list[str]]:
    """Folders of adapter files of a run, and what is not done of it."""
    if any(folder.glob("*.safetensors")):
        return [folder], []
    parts = run_state.collect(folder)
    problems = [_not_done(part, folder) for part in parts if part.state != run_state.DONE]
    found = [part.folder / "adapters" for part in parts if any((part.folder / "adapters").glob("*.safetensors"))]
    there = {path.stem for one in found for path in one.glob("*.safetensors")}
    missing = [lang for lang in expected(parts) if lang not in there]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        problems.append(f"no adapter of {', '.join(missing[:SHOWN])}{more}")
    if not found:
        raise FileNotFoundError(f"{folder}: no adapters in it ({'; '.join(problems)})")
    return found, problems


def _not_done(part: run_state.State, run: Path) -> str:
    told, name = part.told, run_state.name(part.folder, run)
    updates = f", {told.num_updates} of {told.max_update} updates" if told.max_update else ""
    return f"{name} is {part.state}{updates}{f' ({part.reason})' if part.reason else ''}"


def expected(parts: Sequence[run_state.State]) -> list[str]:
    """The languages of all shards, also of those that nobody has started."""
    told = {lang for part in parts for lang in part.told.langs}
    for part in parts:
        if (part.folder / "config.yaml").exists():
            asked = OmegaConf.load(part.folder / "config.yaml").task.langs
            return sorted(told.union(languages.resolve(asked) if asked else ()))
    return sorted(told)


def read(folders: Sequence[Path]) -> list[Adapter]:
    """All adapters by language. Raises ValueError when two folders have one language."""
    found: dict[str, Adapter] = {}
    for folder in folders:
        for lang, adapter in adapter_files.read_adapters(folder).items():
            if lang in found:
                raise ValueError(f"{lang}: two adapters, {found[lang].path} and {adapter.path}; delete one")
            found[lang] = adapter
    return [found[lang] for lang in sorted(found)]


def table(adapters: Sequence[Adapter]) -> str:
    """Results by language as TSV."""
    rows = ["lang\tdev_cer\tnum_updates\tfile"]
    for adapter in adapters:
        rate = "" if adapter.dev_cer is None else f"{adapter.dev_cer:.2f}"
        rows.append(f"{adapter.lang}\t{rate}\t{adapter.num_updates}\t{adapter.path}")
    return "\n".join(rows) + "\n"


def summary(adapters: Sequence[Adapter]) -> str:
    """The macro dev CER and the worst languages."""
    rates = {adapter.lang: adapter.dev_cer for adapter in adapters if adapter.dev_cer is not None}
    if not rates:
        return "no dev CER in the adapters"
    worst = sorted(rates, key=rates.__getitem__, reverse=True)[:10]
    shown = ", ".join(f"{lang} {rates[lang]:.1f}" for lang in worst)
    return f"dev CER: macro {sum(rates.values()) / len(rates):.2f} over {len(rates)} languages; worst: {shown}"


if __name__ == "__main__":
    sys.exit(main())
