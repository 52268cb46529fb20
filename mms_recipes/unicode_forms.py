"""One text in several Unicode forms: letters composed or taken apart, ligatures, full-width and presentation forms.

Texts are the same where NFKC makes them the same. What is written is composed, as people type it.
"""

import functools
import re
import unicodedata

from rapidfuzz.distance import Levenshtein

# Thai and Lao sara am, which NFKC takes apart and NFC does not join again; a tone mark may stand in between
_SARA_AM = (
    (re.compile("\u0e4d([\u0e48-\u0e4b]?)\u0e32"), "\\1\u0e33"),
    (re.compile("\u0ecd([\u0ec8-\u0ecb]?)\u0eb2"), "\\1\u0eb3"),
)


def composed(text: str) -> str:
    """Return a text as people type it: NFC, with sara am as one letter."""
    for apart, joined in _SARA_AM:
        text = apart.sub(joined, text)
    return unicodedata.normalize("NFC", text)


def in_form_of(reference: str, hypothesis: str) -> str:
    """Return a hypothesis in the Unicode form of its reference, so that no form counts as an error.

    Where both have the same letters, it gets the reference's way to write them; elsewhere it is composed or taken apart
    as the reference is. A hypothesis that is in the reference's form comes back as it is.
    """
    if reference == hypothesis or all(unicodedata.is_normalized("NFKC", text) for text in (reference, hypothesis)):
        return hypothesis
    theirs, ours = _ends(reference), _ends(hypothesis)  # where their pieces end, in NFKC and as they are written
    written, done = [], 0  # hypothesis[:done] is written
    for edit in Levenshtein.opcodes(*(unicodedata.normalize("NFKC", text) for text in (reference, hypothesis))):
        if edit.tag != "equal":
            continue
        shift = edit.dest_start - edit.src_start
        both = [end for end in range(edit.src_start, edit.src_end + 1) if end in theirs and end + shift in ours]
        if len(both) > 1:
            first, last = both[0], both[-1]
            written += [hypothesis[done : ours[first + shift]], reference[theirs[first] : theirs[last]]]
            done = ours[last + shift]
    text = "".join([*written, hypothesis[done:]])
    composes, decomposes = (unicodedata.is_normalized(form, reference) for form in ("NFC", "NFD"))
    return text if composes == decomposes else unicodedata.normalize("NFC" if composes else "NFD", text)


@functools.lru_cache(maxsize=1 << 12)
def _ends(text: str) -> dict[int, int]:
    """Return the places where no form joins what is before and behind: by place in NFKC that in the text."""
    found, begin, form = {0: 0}, 0, ""  # of the piece that is being read
    in_form = 0
    for place, letter in enumerate(text):
        alone = unicodedata.normalize("NFKC", letter)
        both = unicodedata.normalize("NFKC", text[begin : place + 1])
        if place > begin and both == form + alone and not unicodedata.combining(alone[:1] or "\0"):
            in_form += len(form)
            found[in_form] = begin = place
            both = alone
        form = both
    return found | {in_form + len(form): len(text)}
