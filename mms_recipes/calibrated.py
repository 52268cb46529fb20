"""The calibrations that lie beside a model, for the heads that they were fitted on."""

import logging
from pathlib import Path

from mms_recipes import languages
from mms_recipes.decoding import confidence, word_times
from mms_recipes.decoding.confidence import Calibration
from mms_recipes.decoding.word_times import Timing
from mms_recipes.formats.portable import state_hash
from mms_recipes.recognizer import Recognizer

logger = logging.getLogger(__name__)

GREEDY, BEAM = "greedy", "beam"  # kinds of search: the same score means something else after another one


class Confidence:
    """What makes confidences of the scores of a model's transcripts, where a calibration was fitted for it.

    Threads may share it: what it keeps of a language is found again by whoever does not see it yet.
    """

    def __init__(self, checkpoint: str | Path, search: str) -> None:
        """Read the calibration beside a model. Raises ValueError when the file is no such file."""
        self.path = confidence.calibration_file(Path(checkpoint))
        self._found = confidence.read(Path(checkpoint)).get(search)
        self._by_lang: dict[str, Calibration | None] = {}

    def of(self, recognizer: Recognizer, lang: str, timing: Timing) -> Timing:
        """Return the timing of a transcript with its confidences; as it is where none was fitted for the language."""
        if self._found is None:
            return timing
        if lang not in self._by_lang:
            self._by_lang[lang] = self._fitting(self._found, recognizer, lang)
        return word_times.calibrated(timing, self._by_lang[lang], languages.is_character_scored(lang))

    def _fitting(self, found: Calibration, recognizer: Recognizer, lang: str) -> Calibration | None:
        fitted_on = found.heads.get(lang)
        if fitted_on is None:
            return None
        if fitted_on != fingerprint(recognizer, lang):
            logger.warning(
                "%s: was fitted for another model of %s than the one that lies there now, so there are scores and no "
                "confidences; evaluate again with calibrate=%s",
                self.path,
                lang,
                found.split,
            )
            return None
        return found


def fingerprint(recognizer: Recognizer, lang: str) -> str:
    """Return what tells the model of a language apart: a hash of its base's hash and its head's weights."""
    weight, bias = recognizer.heads.head_of(lang)
    return f"{recognizer.base_hash}/{state_hash({'weight': weight, 'bias': bias})}"
