"""The licence of weights and where they come from, kept from a base to what is made of it.

A licence is an SPDX id, as Hugging Face's model cards write it in small letters; UNKNOWN where no file says, which does
not mean free. Nothing inside Meta's .pt files names their licence, so their file names do.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

UNKNOWN = "unknown"
CC_BY_NC = "cc-by-nc-4.0"
# names under which Meta's MMS weights travel (fairseq:examples/mms/README.md, the Hub pages of facebook/mms-*)
MMS_NAMES = re.compile(
    r"mms1b_\w+\.pt|base_(300m|1b)\.pt|facebook/mms-.+|models--facebook--mms-.+|mms-(1b|300m|lid)\b.*"
)


@dataclass(frozen=True)
class Origin:
    """Under which licence weights are, and what they were made of, the oldest first."""

    licence: str = UNKNOWN
    provenance: tuple[str, ...] = ()

    def then(self, step: str) -> "Origin":
        """The same with one more step at its end."""
        return Origin(self.licence, (*self.provenance, step))

    def known_else(self, others: Iterable["Origin"]) -> "Origin":
        """This one, or where it does not know the licence, the first of the others that does."""
        return next((origin for origin in (self, *others) if origin.licence != UNKNOWN), self)

    def licensed(self, licence: str | None, where: str) -> "Origin":
        """The same under the licence that the user names; ValueError when the file itself names another."""
        if licence is None:
            return self
        licence = licence.lower()
        if self.licence not in (UNKNOWN, licence):
            raise ValueError(
                f"{where}: is under {self.licence!r}, as the file or its name says; a conversion cannot change that to "
                f"{licence!r}: leave --licence out"
            )
        return Origin(licence, (*self.provenance, f"licence {licence} as given by the user"))

    def describe(self) -> str:
        """One line for the user."""
        if self.licence == UNKNOWN:
            return "licence: unknown (no file says; that is not a permission. --licence records it)"
        remark = ", no commercial use" if "-nc" in self.licence else ""
        return f"licence: {self.licence}{remark}"


def of_name(name: str) -> str:
    """The licence that a well-known file or repository name stands for, else UNKNOWN."""
    path = PurePath(name)
    candidates = (name, *path.parts)
    return CC_BY_NC if any(MMS_NAMES.fullmatch(part) for part in candidates) else UNKNOWN
