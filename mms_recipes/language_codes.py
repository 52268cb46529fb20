"""Codes of languages that other programs use, and which languages of the table they may mean.

ISO 639-1 (zh), the codes that were withdrawn (iw), bibliographic ones (ger), macrolanguages (zho), and all of these
with a script or a region behind them (eng_Latn, pt-BR, zh-Hant). None is taken for an id: many mean several languages.
"""

import re
from collections.abc import Iterable, Mapping

# ISO 639-1 and the ISO 639-3 codes of what it means here, most speakers first.
_TWO_LETTERS = """aa aar|ab abk|af afr|ak aka|am amh|an arg|ar ara|as asm|av ava|ay ayr|az azj aze azb|ba bak
be bel|bg bul|bh bho mai mag|bi bis|bm bam|bn ben|bo bod|br bre|bs bos|ca cat|ce che|ch cha
co cos|cr crk crl cre|cs ces|cu chu|cv chv|cy cym|da dan|de deu|dv div|dz dzo|ee ewe|el ell
en eng|eo epo|es spa|et est|eu eus|fa fas|ff ful|fi fin|fj fij|fo fao|fr fra|fy fry|ga gle
gd gla|gl glg|gn grn gug|gu guj|gv glv|ha hau|he heb|hi hin|ho hmo|hr hrv|ht hat|hu hun|hy hye
hz her|ia ina|id ind|ie ile|ig ibo|ii iii|ik esi|io ido|is isl|it ita|iu ike iku|ja jpn|jv jav
ka kat|kg kon ktu|ki kik|kj kua|kk kaz|kl kal|km khm|kn kan|ko kor|kr knc kby|ks kas|ku kmr ckb
kv koi kpv|kw cor|ky kir|la lat|lb ltz|lg lug|li lim|ln lin|lo lao|lt lit|lu lub|lv lav|mg mlg
mh mah|mi mri|mk mkd|ml mal|mn mon|mr mar|ms zsm zlm|mt mlt|my mya|na nau|nb nob|nd nde|ne npi
ng ndo|nl nld|nn nno|no nob nno|nr nbl|nv nav|ny nya|oc oci|oj ojb oji|om orm|or ory|os oss
pa pan|pi pli|pl pol|ps pus|pt por|qu quz quy que|rm roh|rn run|ro ron|ru rus|rw kin|sa san
sc srd|sd snd|se sme|sg sag|si sin|sk slk|sl slv|sm smo|sn sna|so som|sq sqi|sr srp|ss ssw
st sot|su sun|sv swe|sw swh|ta tam|te tel|tg tgk|th tha|ti tir|tk tuk|tl tgl|tn tsn|to ton
tr tur|ts tso|tt tat|tw twi aka|ty tah|ug uig|uk ukr|ur urd|uz uzb|ve ven|vi vie|vo vol|wa wln
wo wol|xh xho|yi yid|yo yor|za zyb zha|zh cmn yue nan|zu zul"""
_WITHDRAWN = "iw heb|in ind|ji yid|jw jav|mo ron|sh srp hrv bos|mol ron|scc srp|scr hrv|hbs srp hrv bos"
_BIBLIOGRAPHIC = """alb sqi|arm hye|baq eus|bur mya|chi cmn yue nan|cze ces|dut nld|fre fra|geo kat|ger deu|gre ell
ice isl|mac mkd|mao mri|may zsm zlm|per fas|rum ron|slo slk|tib bod|wel cym"""
_WIDER = """zho cmn yue nan|msa zsm zlm|nor nob nno|swa swh|kur kmr ckb|que quz quy|aym ayr|nep npi|ori ory
cre crk crl|iku ike|ipk esi|kau knc kby|kom koi kpv|oji ojb|zha zyb|arb ara|pes fas|prs fas
ekk est|lvs lav|khk mon|als sqi|gaz orm|plt mlg|pbt pus|pbu pus|uzn uzb|ydd yid|fil tgl|fuc ful
gug grn"""
_KINDS = (
    (_TWO_LETTERS, "an ISO 639-1 code"),
    (_WITHDRAWN, "a code that was withdrawn"),
    (_BIBLIOGRAPHIC, "a bibliographic code (ISO 639-2/B)"),
    (_WIDER, "the code of a wider or narrower language"),
)
_REGION_SCRIPTS = {"CN": "Hans", "SG": "Hans", "TW": "Hant", "HK": "Hant", "MO": "Hant"}
_PART = re.compile(r"[-_]")
_SUBTAG = re.compile(r"[A-Za-z]{2}|[A-Za-z]{4}|[0-9]{3}")  # a region or a script


def _read(table: str) -> dict[str, list[str]]:
    entries = (entry.split() for line in table.splitlines() for entry in line.split("|"))
    return {code: meant for code, *meant in entries}


CODES: Mapping[str, tuple[str, list[str]]] = {
    code: (kind, meant) for table, kind in _KINDS for code, meant in _read(table).items()
}


def meaning(code: str, known: Iterable[str]) -> tuple[str, list[str], str] | None:
    """Return what kind of code this is, the ISO 639-3 codes that it may mean, and its script ("Latn" or nothing).

    `known`: ISO 639-3 codes that there are. None where it is no such code.
    """
    first, *more = _PART.split(code.strip())
    language = first.lower()  # codes are written in any case
    script = next((part.title() for part in more if len(part) == 4 and part.isalpha()), "")
    script = script or next((_REGION_SCRIPTS[part.upper()] for part in more if part.upper() in _REGION_SCRIPTS), "")
    if not all(map(_SUBTAG.fullmatch, more)):
        return None
    if language in CODES:
        kind, meant = CODES[language]
        return kind, meant, script
    if language in set(known) and (more or first != language):
        return "an ISO 639-3 code with more behind it" if more else "an id in capitals", [language], script
    return None
