"""What normalisation does otherwise in one language, by version: letters that are typed as punctuation, and joiners.

The table of `mms-1` may not change: data was made with it. `mms-2` adds to it. Sources: orthographies as Wikipedia and
Omniglot give them; Unicode's proposals for the modifier letters of the Ivory Coast (U+A789, U+A78A: L2/05-097), for
clicks (U+01C0 to U+01C3) and for Lisu (U+A4F8 to U+A4FD: N3424); the Unicode Standard on joiners (chapters 9, 12, 13).
"""

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

JOINER, NON_JOINER = "\u200d", "\u200c"

Patterns = tuple[tuple[str, str], ...]  # regular expression, what takes its place


@dataclass(frozen=True)
class Rules:
    """One language. ``typed`` comes before case is lowered; ``patterns`` and then ``mapping`` before punctuation is
    cut; ``composed`` last of all.

    ``mark``: what stands for an apostrophe in another Unicode form. ``elided``: what may follow an apostrophe at the
    start of a word, so that it is a letter; ``final``: it is one at the end of words, although quotations use it too.
    """

    patterns: Patterns = ()
    mapping: Mapping[str, str] = field(default_factory=dict)
    dotless_i: bool = False
    strip_diacritics: bool = False
    unfolded: Mapping[str, str] = field(default_factory=dict)  # before compatibility forms are taken apart
    marks: str = ""
    typed: Patterns = ()
    elided: str = ""
    final: bool = False
    composed: Patterns = ()


TURKIC = Rules(dotless_i=True)
_ALEF_WASLA = Rules(mapping={"\u0671": "\u0627"})
_MIDDLE_DOT = Rules(patterns=((r"(?<![^\W\d_])\u00b7|\u00b7(?![^\W\d_])", " "),), mapping={"\u00b7": "\u00b7"})
_HEBREW = Rules(  # abbreviations are written with a double mark within the word
    patterns=((r'(?<=[\u05d0-\u05ea])["\u05f4\u201d](?=[\u05d0-\u05ea])', ""),),
    mapping=dict.fromkeys(map(chr, (*range(0x0591, 0x05BE), 0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7)), ""),
)
MMS_1 = {
    "ara": _ALEF_WASLA,
    "arb": _ALEF_WASLA,
    "aze": TURKIC,
    "azj": TURKIC,
    "cat": _MIDDLE_DOT,
    "crh": TURKIC,
    "gag": TURKIC,
    "heb": _HEBREW,
    "jav": Rules(strip_diacritics=True),
    "oci": _MIDDLE_DOT,
    "tha": Rules(mapping={JOINER: " "}),
    "tur": TURKIC,
}

# Below: mms-2 alone.

_LETTER = r"[^\W\d_]"
_VOWEL = "[aeiouāēīōūáéíóúàèìòùâêîôûäëïöüãõ]"


def _words(*words: str) -> str:
    return rf"(?:{'|'.join(words)})(?!\w)"


_BEFORE = {  # an apostrophe at the start of a word is a letter before this; elsewhere it opens a quotation
    "haw ton smo tah rar wls fud rap pmt mrq mrv rtm nav apw dgr gwi crx": _VOWEL,  # glottal stop
    "hau": "y",
    "ful fuv ffm fub fuf fuh fuq": "[ybd]",
    "afr": _words("n", "t", "k", "s", "m"),
    "nld nds fry zea lim vls gos dum": _words("s", "t", "n", "k", "m", "r", "d", "ns", "em", "er", "ie"),
    "deu gsw bar ltz": _words("s", "n", "t", "ne", "nen", "nem", "ner", "em", "er"),
    "eng sco": _words("tis", "twas", "twere", "twill", "twould", "em", "til"),
    "ita": _words("ndrangheta", "sto", "sta", "sti", "ste", "na", "nu", "l", "n"),
    "nap scn vec lmo pms lij egl eml rgn srd cos fur": _words(
        "a", "d", "e", "i", "l", "m", "mpo", "n", "na", "nta", "nu", "o", "sta", "sto", "stu", "u"
    ),
    "cym": _words("ch", "i", "m", "n", "r", "th", "u", "w"),
    "gla": _words("ac", "ga", "gad", "gam", "gan", "gar", "gus", "n", "na", "nad", "nam", "nuair", "s", "san", "se"),
    "gle": _words("na", "s", "sea", "un"),
    "glv": _words("n", "s", "sy", "syn"),
    "bre": _words("barzh", "m", "oa", "vez", "vo", "zo"),
    "mlt": _words("il", "l", "n"),
    "tgl fil": _words("di", "kay", "no", "pag", "ta", "to", "tong", "wag", "ya", "yan", "yon", "yong", "yun", "yung"),
}
_FINAL = (  # apostrophes at the end of words are letters, whatever the text has at their start
    "uzb uzn som mlt cha vro vep olo krl yrk enf nio gla ltz nap scn "
    "acr agu cac cak caa ctu chf hus hva ixl ixi ixj jac kek kjb knj lac mam mop mhc mvc mvj poc poh quc quv qum tzh "
    "tzo tzj ttc toj usp yua itz nav apw dgr chp gwi tli"
)

# Clicks come before a letter, so a mark at the end of a sentence is none.
_CLICK = "[\u01c0-\u01c3]*[^\\W\\d_]"
_CLICKS = Rules(
    typed=(
        (rf"(?:\|\||\u2016|\u2225|(?<![^\s(])//)(?=[!=\u2260|]?{_CLICK})", "\u01c1"),
        (rf"(?:\||\u00a6|(?<![^\s(])/)(?={_CLICK})", "\u01c0"),
        (rf"(?:\u2260|\u2021|=/|=)(?={_CLICK})", "\u01c2"),
        (rf"!(?={_CLICK})", "\u01c3"),
    )
)
_LENGTH = Rules(patterns=((rf"(?<={_LETTER})[:\u00b7](?={_LETTER})", "\ua789"),))
# Tones before and after a word: very high, high (the apostrophe), low, very low.
_TONES = Rules(
    patterns=(
        (rf"(?<![\w'\u02d7\ua78a-])[-\u2010\u2011](?='*{_LETTER})|(?<=[^\W_])[-\u2010\u2011](?![\w'-])", "\u02d7"),
        (rf"(?<!\w)=(?='*{_LETTER})|(?<=[^\W_])=(?!\w)", "\ua78a"),
    )
)
_PALOCHKA = Rules(  # typed I, l, 1, | or ! beside Cyrillic letters
    typed=((r"(?<=[\u0400-\u052f])[Il1|\u01c0]+|[Il1|\u01c0](?=[\u0400-\u052f])|!(?=[\u0430-\u045f])", "\u04cf"),)
)
_GLOTTAL = Rules(typed=((rf"\?(?={_LETTER})", "\u0294"),))
_LISU = Rules(
    typed=tuple(
        (rf"(?<=[\ua4d0-\ua4f7]){re.escape(typed)}", letter)
        for typed, letter in zip(["..", ".,", ".", ",", ";", ":"], "\ua4fa\ua4fb\ua4f8\ua4f9\ua4fc\ua4fd", strict=True)
    )
)
_PERSIAN = Rules(mapping={NON_JOINER: NON_JOINER})  # parts of a word; without it they are another word
_SORANI = Rules(unfolded={"\u0647\u200c": "\u06d5", "\u0647\u200d": "\u0647"})
# NFKC takes sara am apart, and NFC does not put it together again. Two sara e are typed for sara ae.
_THAI = Rules(
    mapping={JOINER: " "},
    composed=(("\u0e4d([\u0e48-\u0e4b]?)\u0e32", "\\1\u0e33"), ("\u0e40\u0e40", "\u0e41")),
)
_LAO = Rules(composed=(("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2", "\\1\u0eb3"), ("\u0ec0\u0ec0", "\u0ec1")))

_OTHERS = {
    "naq nmn ngh hgm ktz knw gku xam gnk gwj huc nhr kwz xeg shg tyj": _CLICKS,
    "moh one ono cay tus see": _LENGTH,
    "ati abi gud dic god bet btg bev wob gxx wec nwb ney dnj daf neb ggu yre goa moa lda ted ktj pye bjw adj ebr aba "
    "abu avi ald nhb klu gec grj gry gbo gdo": _TONES,
    "che ava lez inh kbd ady dar lbe tab abq huz rut tkr agx aqc ani akv cji bph ddo gin kva kpt khv tin": _PALOCHKA,
    "nuk dtd oka thp scs xsl den bea sek": _GLOTTAL,
    "lis": _LISU,
    "kib": Rules(mapping={"@": "@"}),
    "fas pes prs aiq haz mzn glk lrc azb luz bqi": _PERSIAN,
    "ckb": _SORANI,
    "tha": _THAI,
    "lao": _LAO,
}
_UNFOLDED = {  # in every language
    "\ufdfa": " \ufdfa ",  # phrases, written without a space before them
    "\ufdfb": " \ufdfb ",
    "\u309b": "\u3099",
    "\u309c": "\u309a",
    "\u09a4\u09cd\u200d": "\u09ce",  # letters that Unicode wrote with a joiner before it had them: khanda ta, chillu
    "\u0d23\u0d4d\u200d": "\u0d7a",
    "\u0d28\u0d4d\u200d": "\u0d7b",
    "\u0d30\u0d4d\u200d": "\u0d7c",
    "\u0d32\u0d4d\u200d": "\u0d7d",
    "\u0d33\u0d4d\u200d": "\u0d7e",
    "\u0d15\u0d4d\u200d": "\u0d7f",
}
# A joiner makes another letter beside the virama of Sinhala and Bengali, and after ra in Devanagari (eyelash ra).
_SHAPING_JOINER = (rf"(?<![\u0dca\u09cd])(?<!\u0930\u094d){JOINER}(?![\u0dca\u09cd])", "")
_ARABIC = (*range(0xFC5E, 0xFC64), *range(0xFE70, 0xFE80))
_MARKS = "\u02bb\u02bc\u02bd\ua78b\ua78c"  # letters that are apostrophes: one spelling, the typed one


@functools.cache
def mms_2(code: str) -> Rules:
    """Return the rules of a language (ISO 639-3) in mms-2."""
    rules = MMS_1.get(code, Rules())
    for codes, other in _OTHERS.items():
        if code in codes.split():
            rules = replace(
                rules,
                patterns=(*rules.patterns, *other.patterns),
                mapping={**rules.mapping, **other.mapping},
                unfolded=other.unfolded,
                typed=other.typed,
                composed=other.composed,
            )
    shaping = () if JOINER in rules.mapping else (_SHAPING_JOINER,)
    return replace(
        rules,
        patterns=(*shaping, *rules.patterns),
        unfolded={**_UNFOLDED, **_spaced_marks(), **rules.unfolded},
        marks=_MARKS,
        elided=next((before for codes, before in _BEFORE.items() if code in codes.split()), ""),
        final=code in _FINAL.split(),
    )


def mms_1(code: str) -> Rules:
    """Return the rules of a language (ISO 639-3) in mms-1."""
    return MMS_1.get(code, Rules())


@functools.cache
def _spaced_marks() -> Mapping[str, str]:
    """Return Arabic marks that NFKC would give a space, which cuts the word that they stand in."""
    return {chr(code): unicodedata.normalize("NFKC", chr(code)).strip() for code in _ARABIC if chr(code).isprintable()}
