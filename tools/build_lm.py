"""Build n-gram language models with KenLM, ready for decoding: one language from text, or all of a corpus at once.

    python tools/build_lm.py news.txt.gz more.txt lms --lang eng --dictionary manifests/fleurs/eng/dict.ltr.txt
    python tools/build_lm.py manifests/fleurs lms --from-manifests [--langs eng,fra] [--checkpoint outputs/x/adapters]

OUT/<lang>/ gets lm.bin, for words lexicon.txt, and lm.json, which says what they are made of; a language that is
finished is skipped, one that was interrupted goes on. Text is normalised as transcripts are, emoji are cut. Kind,
order, vocabulary and pruning are those of the MMS paper (appendix B) unless options say otherwise: 5-grams of the
250,000 most frequent words, or 20-grams of letters for scripts without spaces; from manifests, the transcripts of
train, unpruned, with 15-grams of letters. An order that the decoder's KenLM does not read is lowered when nobody asked
for it.

lmplz and build_binary are looked for in --kenlm, in .kenlm of this checkout (`make kenlm`), and on PATH.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kenlm_programs
import lm_corpus
import lm_units
from kenlm_programs import Programs
from lm_corpus import Corpus

from mms_recipes import __version__, languages
from mms_recipes.corpora import validation
from mms_recipes.corpora.preparation import normalization_for
from mms_recipes.decoding import ngrams
from mms_recipes.decoding.language_model import DESCRIPTION, LEXICON, MODEL, TUNED
from mms_recipes.decoding.lm_text import Kind
from mms_recipes.decoding.ngrams import Recipe, Vocabulary
from mms_recipes.files import sha256, write_text
from mms_recipes.text import NORMALIZATION, NORMALIZATIONS, WORD_END
from mms_recipes.unit_kinds import PIECES_MODEL, UnitKind
from mms_recipes.units import Units

SMALL = 10_000_000  # bytes of text, below which pruning leaves little
# A hash table answers fastest, and a word model is small beside its text; letter models of a high order are not.
STRUCTURES: dict[Kind, str] = {"word": "probing", "letter": "trie"}


@dataclass(frozen=True)
class Job:
    """One language's model: from which texts, of which order (lowered from `paper_order`), for which units.

    `known` are all units of the acoustic model, from `dictionary`: that, or the checkpoint.
    """

    lang: str
    texts: list[Path]
    dictionary: Path
    known: list[str]
    kind: Kind
    order: int
    paper_order: int | None
    units: Units


def main(arguments: list[str] | None = None) -> int:
    args = parse(arguments)
    try:
        programs = kenlm_programs.find_programs(args.kenlm)
        jobs = plan(args, programs)
        for number, job in enumerate(jobs, start=1):
            print(f"[{number}/{len(jobs)}] {job.lang}: {job.kind} {job.order}-grams", flush=True)
            if job.paper_order:
                print(f"  {job.paper_order}-grams in the paper; lowered to what the decoder reads (--highest-order)")
            build(job, args, programs)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path, help="text (.gz, .xz, .bz2 too), or the folder of manifests")
    parser.add_argument("out", type=Path, help="folder of models; a folder for each language is made in it")
    parser.add_argument("--lang", help="id of the text's language")
    parser.add_argument("--dictionary", type=Path, help="dict.ltr.txt of the acoustic model")
    parser.add_argument(
        "--checkpoint", type=Path, help="the acoustic model, in place of --dictionary and --units: it knows its units"
    )
    parser.add_argument("--from-manifests", action="store_true", help="train.wrd of every language, its dict.ltr.txt")
    parser.add_argument("--langs", help="with --from-manifests: ids or sets, separated by commas (default: all)")
    parser.add_argument(
        "--units",
        type=UnitKind,
        choices=list(UnitKind),
        default=UnitKind.letters,
        help=f"of the acoustic model; pieces have {PIECES_MODEL} beside their dictionary",
    )
    parser.add_argument("--kind", choices=("word", "letter"), help="default: letter (unit) for scripts without spaces")
    parser.add_argument("--order", type=int, help="length of the n-grams (default: the paper's)")
    parser.add_argument("--prune", help="'none', or counts for each order, such as '0 0 1' (default: the paper's)")
    parser.add_argument("--vocabulary", type=int, default=ngrams.VOCABULARY, help="words (default: %(default)s)")
    parser.add_argument("--drop-oov", action="store_true", help="leave out words with letters outside the dictionary")
    parser.add_argument(
        "--normalization",
        choices=sorted(NORMALIZATIONS),
        help=f"default: that of the dictionary's corpus, else {NORMALIZATION}",
    )
    parser.add_argument("--structure", choices=("probing", "trie"), help="of lm.bin: fastest, or smallest")
    parser.add_argument("--licence", default="", help="of the text, to be kept in lm.json")
    parser.add_argument("--kenlm", type=Path, help="folder of lmplz and build_binary")
    parser.add_argument("--highest-order", type=int, help="that the decoder reads (default: flashlight-text is asked)")
    parser.add_argument("--memory", help="for sorting n-grams, such as 50%% or 8G (default: 50%%, less for small text)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that normalise text")
    return parser.parse_args(arguments)


def plan(args: argparse.Namespace, programs: Programs) -> list[Job]:
    """Return the models to build; ValueError before anything is built when one of them cannot be."""
    if args.vocabulary < 1 or args.jobs < 1:
        raise ValueError(f"--vocabulary {args.vocabulary} --jobs {args.jobs}: expected 1 or more")
    if args.from_manifests:
        sources = manifest_sources(args)
    else:
        if not args.lang or not (args.dictionary or args.checkpoint):
            raise ValueError(
                "text needs --lang, and --dictionary or --checkpoint; a folder of manifests needs --from-manifests"
            )
        lang = languages.language(args.lang).id
        sources = {lang: (args.sources, lm_units.source(lang, args))}
    missing = [
        str(path) for texts, dictionary in sources.values() for path in (*texts, dictionary) if not path.is_file()
    ]
    if missing:
        raise FileNotFoundError(
            f"{', '.join(missing)}: no such file; give text with a sentence a line, and {lm_units.wanted(args)}"
        )
    jobs = []
    for lang, (texts, dictionary) in sources.items():
        kind: Kind = args.kind or ngrams.default_kind(lang)
        order, paper_order = choose_order(kind, args, programs)
        known, units = lm_units.read(lang, dictionary, args)
        jobs.append(Job(lang, texts, dictionary, known, kind, order, paper_order, units))
    return jobs


def manifest_sources(args: argparse.Namespace) -> dict[str, tuple[list[Path], Path]]:
    """Return train.wrd and the dictionary of each language under the folder of manifests."""
    if len(args.sources) != 1 or args.lang:
        raise ValueError("--from-manifests takes one folder of manifests, and --langs rather than --lang")
    folder = args.sources[0]
    langs = languages.resolve(args.langs) if args.langs else validation.find_languages(folder, ["train"])
    return {lang: ([folder / lang / "train.wrd"], lm_units.source(lang, args)) for lang in langs}


def choose_order(kind: Kind, args: argparse.Namespace, programs: Programs) -> tuple[int, int | None]:
    """Return the order, and the paper's where that is above what can be read; ValueError when a higher one was asked
    for."""
    wanted = args.order if args.order is not None else ngrams.default_order(kind, args.from_manifests)
    if wanted < 2:
        raise ValueError(f"--order {wanted}: expected 2 or more")
    limits = {"build_binary": kenlm_programs.highest_order_written(programs, wanted)}
    if args.highest_order is None:
        limits["flashlight-text's KenLM"] = kenlm_programs.highest_order_read(wanted)
    else:
        limits["the decoder (--highest-order)"] = args.highest_order
    name, highest = min(limits.items(), key=lambda limit: limit[1])
    if wanted <= highest:
        return wanted, None
    if args.order is not None:
        raise ValueError(
            f"--order {wanted}: {name} takes models up to order {highest} here; give --order {highest} or less, or "
            "build flashlight-text for higher ones (tools/build_flashlight.py .kenlm). For a decoder elsewhere that "
            "takes more, say so with --highest-order"
        )
    return highest, wanted


def build(job: Job, args: argparse.Namespace, programs: Programs) -> None:
    """Make one language's model, unless it is finished."""
    folder = args.out / job.lang
    work = folder / "work"
    settings = describe_settings(job, args)
    if is_finished(folder, settings):
        print("  finished before")
        return
    encode = job.units.encode if job.kind == "letter" else None
    corpus = lm_corpus.prepare(
        work, job.texts, job.lang, encode, settings["normalization"], text_settings(settings), args.jobs
    )
    found = make_vocabulary(job, corpus, args)
    recipe = choose_recipe(job, corpus, args)
    (folder / DESCRIPTION).unlink(missing_ok=True)  # from here on the folder is not finished
    inputs = json.dumps([settings, recipe.pruning, list(found.spellings)], ensure_ascii=False)
    memory = args.memory or kenlm_programs.sorting_memory(corpus.num_bytes)
    estimated = kenlm_programs.estimate(programs, work, corpus, list(found.spellings), recipe, memory, inputs)
    structure = args.structure or STRUCTURES[job.kind]
    kenlm_programs.compress(programs, estimated.arpa, folder / MODEL, structure, memory)
    if job.kind == "word":
        write_text(folder / LEXICON, found.lexicon())
    else:
        (folder / LEXICON).unlink(missing_ok=True)
    if (folder / TUNED).is_file():
        os.replace(folder / TUNED, folder / f"{TUNED}.before")
        print(f"  {folder / TUNED} was tuned for the model before: now {TUNED}.before; tune again")
    sizes = {name: (folder / name).stat().st_size for name in (MODEL, LEXICON) if (folder / name).is_file()}
    document = {
        "settings": settings,
        "order": job.order,
        "paper_order": job.paper_order or job.order,
        "pruning": list(recipe.pruning),
        "discount_fallback": estimated.discount_fallback,
        "structure": structure,
        "lines": corpus.lines,
        "usable_lines": corpus.usable,
        "text_bytes": corpus.num_bytes,
        "tokens": corpus.tokens,
        "counts_forgotten_up_to": corpus.forgotten,
        "vocabulary": len(found.spellings),
        "outside_dictionary": len(found.outside),
        "ngrams": estimated.ngrams,
        "bytes": sizes,
        "sha256": {name: sha256(folder / name) for name in sizes},
        "version": __version__,
    }
    write_text(folder / DESCRIPTION, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    lm_corpus.remove(work)
    print(f"  {folder / MODEL}: {sum(estimated.ngrams):,} n-grams, {sizes[MODEL] / 1e6:.1f} MB, {structure}")


def describe_settings(job: Job, args: argparse.Namespace) -> dict[str, Any]:
    """Return all that the model depends on; the checksums of the texts take a minute for 40 GB."""
    folder = job.dictionary.parent
    corpus = folder.parent if folder.name == job.lang else folder
    return {
        "lang": job.lang,
        "kind": job.kind,
        "order": job.order,
        "texts": [lm_corpus.fingerprint(path) for path in job.texts],
        "transcripts": args.from_manifests,
        "units": job.units.kind,
        "units_sha256": hashlib.sha256(job.units.model).hexdigest() if job.units.model else "",
        "dictionary": {"path": str(job.dictionary), "units": job.known}
        if args.checkpoint  # which changes in training, its units do not
        else lm_corpus.fingerprint(job.dictionary),
        "normalization": normalization_for(corpus, job.lang, args.normalization, say=lambda line: print(f"  {line}")),
        "emoji": "removed",
        "vocabulary": args.vocabulary,
        "drop_oov": args.drop_oov,
        "prune": args.prune,
        "structure": args.structure,
        "licence": args.licence,
    }


def text_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the normalised text depends on: it is not made again when only the model is to be another."""
    return {name: settings[name] for name in ("texts", "lang", "kind", "units_sha256", "normalization")}


def is_finished(folder: Path, settings: Mapping[str, Any]) -> bool:
    """Say whether the folder holds a whole model that was made with these settings."""
    try:
        document = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return document["settings"] == settings and all(
            (folder / name).stat().st_size == size for name, size in document["bytes"].items()
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return False


def make_vocabulary(job: Job, corpus: Corpus, args: argparse.Namespace) -> Vocabulary:
    """Take the vocabulary; ValueError when some of it cannot be spelt and is not to be dropped, or none of it can."""
    ngrams.require_word_end(job.known, str(job.dictionary))
    spell = job.units.encode if job.kind == "word" else lambda unit: [unit]
    found = ngrams.vocabulary(corpus.counts, job.known, spell, args.vocabulary)
    if found.outside:
        told = ngrams.describe_outside(found, corpus.counts, job.kind)
        if not found.spellings.keys() - {WORD_END}:
            raise ValueError(
                f"{job.lang}: {job.dictionary} spells nothing of the text; is it of another language or script? {told}"
            )
        if not args.drop_oov:
            raise ValueError(
                f"{job.lang}: outside {job.dictionary}: {told}. --drop-oov leaves them out of the model; if it should "
                "have them, see whether the text is of this language, and normalised as the transcripts are"
            )
        print(f"  left out (--drop-oov), outside {job.dictionary}: {told}")
    return found


def choose_recipe(job: Job, corpus: Corpus, args: argparse.Namespace) -> Recipe:
    recipe = ngrams.paper_recipe(job.kind, job.order, corpus.num_bytes, args.from_manifests)
    if args.prune is not None:
        return Recipe(job.kind, job.order, ngrams.parse_pruning(args.prune, job.order), recipe.discount_fallback)
    if recipe.pruning and corpus.num_bytes < SMALL:
        print(f"  note: {corpus.num_bytes:,} bytes of text, pruned as the paper's gigabytes; --prune none keeps more")
    return recipe


if __name__ == "__main__":
    sys.exit(main())
