"""From the language that was asked for, or heard, to the adapter that writes it down."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mms_recipes import languages
from mms_recipes.lid.classes import class_of

NEAREST = "nearest"  # as fallback: the most probable language that has an adapter
SHOWN = 10


@dataclass(frozen=True)
class Routes:
    """How to go from a class of language identification to an adapter.

    `preferred` decides between adapters of one language (scripts, dialects). Below `threshold`, or where a language has
    no adapter, `fallback` is taken: an adapter's language, or `nearest`.
    """

    preferred: Sequence[str] = ()
    fallback: str | None = None
    threshold: float = 0.0


@dataclass(frozen=True)
class Route:
    """Where a recording was sent: language, probability of its class, and a remark if that was a makeshift."""

    lang: str
    probability: float
    remark: str | None = None


def choose(probabilities: Mapping[str, float], available: Collection[str] | None, routes: Routes) -> Route:
    """Choose an adapter by the probabilities of the classes; `available` None: one head writes all languages.

    Raises ValueError when there is no adapter and no fallback.
    """
    ranked = sorted(probabilities, key=lambda name: -probabilities[name])
    first, probability = ranked[0], probabilities[ranked[0]]
    found = of_class(first, available, routes.preferred)
    if found and probability >= routes.threshold:
        return Route(found[0], probability)
    said = f"sounds like {languages.named(first)} (probability {probability:.2f})"
    said += f", less than {routes.threshold:g}" if found else ", for which there is no adapter"
    if routes.fallback and routes.fallback != NEAREST:
        heard = probabilities.get(routes.fallback, probabilities.get(class_of(routes.fallback), 0.0))
        return Route(routes.fallback, heard, f"{said}; taken as {routes.fallback}, the fallback")
    for name in ranked:
        if found := of_class(name, available, routes.preferred):
            near = f"{found[0]} (probability {probabilities[name]:.2f})"
            if routes.fallback == NEAREST:
                return Route(found[0], probabilities[name], f"{said}; taken as {near}")
            raise ValueError(f"{said}; nearest with one: {near}; give its language, or --fallback-lang")
    raise ValueError(f"{said}, nor for any other of the {len(ranked)} classes; give its language")


def of_class(name: str, available: Collection[str] | None, preferred: Sequence[str] = ()) -> list[str]:
    """Return the adapters that can write a class down, the best first: preferred ones, the language of that very id,
    that of FLEURS, then as in languages.tsv."""
    if available is None:
        return [name]
    table, order = languages.table(), list(languages.table())

    def rank(lang: str) -> tuple[int, bool, bool, int]:
        row = table.get(lang)
        by_wish = preferred.index(lang) if lang in preferred else len(preferred)
        return by_wish, lang != name, not (row and row.fleurs), order.index(lang) if row else len(order)

    return sorted((lang for lang in available if name in (lang, class_of(lang))), key=rank)


def require(wanted: Collection[str], available: Collection[str], where: object) -> None:
    """Raise ValueError for languages without an adapter, with the nearest that there are."""
    missing = [lang for lang in wanted if lang not in available]
    if not missing:
        return
    told = "; ".join(f"{lang} (nearest: {', '.join(nearest(lang, available)) or 'none'})" for lang in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    there = sorted(available)
    shown = ", ".join(there[:SHOWN]) + (", ..." if len(there) > SHOWN else "")
    raise ValueError(f"{where}: no adapter for {told}{more}; there are {len(there)}: {shown}")


def nearest(lang: str, available: Collection[str]) -> list[str]:
    """Return up to three adapters that may have been meant: of the same language, then with an id or a name like it."""
    table = languages.table()
    iso = lang.partition("-")[0]
    found = [*of_class(class_of(lang), available), *(other for other in available if other.partition("-")[0] == iso)]
    found += difflib.get_close_matches(lang, available, n=3)
    names = {table[other].name: other for other in available if other in table}
    if lang in table:
        found += [names[near] for near in difflib.get_close_matches(table[lang].name, names, n=3, cutoff=0.7)]
    return list(dict.fromkeys(found))[:3]
