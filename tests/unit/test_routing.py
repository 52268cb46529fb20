"""From languages that were heard or asked for to adapters."""

import pytest

from mms_recipes.transcription import routing
from mms_recipes.transcription.routing import Route, Routes

SERBIAN = ["srp-script_cyrillic", "srp-script_latin"]
AVAILABLE = ["azj-script_cyrillic", "azj-script_latin", "cmn-script_simplified", "eng", "nob", *SERBIAN]


@pytest.mark.parametrize(
    ("name", "preferred", "lang"),
    [
        ("eng", (), "eng"),
        ("aze", (), "azj-script_latin"),  # FLEURS has it
        ("aze", ("azj-script_cyrillic",), "azj-script_cyrillic"),
        ("cmn", (), "cmn-script_simplified"),
        ("srp", ("eng", "srp-script_cyrillic"), "srp-script_cyrillic"),
    ],
)
def test_a_class_leads_to_its_adapter(name: str, preferred: tuple, lang: str) -> None:
    assert routing.choose({"xxx": 0.1, name: 0.9}, AVAILABLE, Routes(preferred)) == Route(lang, 0.9)


def test_one_head_for_all_takes_the_class_itself() -> None:
    assert routing.choose({"nno": 0.6, "nob": 0.4}, None, Routes()) == Route("nno", 0.6)


def test_without_an_adapter_the_fallback_is_taken_and_told() -> None:
    heard = {"nno": 0.5, "swe": 0.2, "nob": 0.19, "eng": 0.11}
    near = routing.choose(heard, AVAILABLE, Routes(fallback="nearest"))
    assert (near.lang, near.probability) == ("nob", 0.19)
    said = "sounds like nno (Norwegian Nynorsk) (probability 0.50), for which there is no adapter"
    assert near.remark == f"{said}; taken as nob (probability 0.19)"
    fixed = routing.choose(heard, AVAILABLE, Routes(fallback="eng"))
    assert (fixed.lang, fixed.probability, fixed.remark) == ("eng", 0.11, f"{said}; taken as eng, the fallback")
    with pytest.raises(ValueError, match=r"nno .* no adapter; nearest with one: nob \(probability 0.19\); give its"):
        routing.choose(heard, AVAILABLE, Routes())
    with pytest.raises(ValueError, match="nor for any other of the 2 classes; give its language"):
        routing.choose({"nno": 0.5, "swe": 0.5}, AVAILABLE, Routes(fallback="nearest"))


def test_below_the_threshold_the_fallback_is_taken() -> None:
    heard = {"eng": 0.4, "nob": 0.35}
    unsure = routing.choose(heard, AVAILABLE, Routes(fallback="nob", threshold=0.5))
    assert unsure.lang == "nob" and "sounds like eng (English) (probability 0.40), less than 0.5" in str(unsure.remark)
    assert routing.choose(heard, AVAILABLE, Routes(fallback="nob", threshold=0.4)).lang == "eng"
    with pytest.raises(ValueError, match=r"less than 0\.5; nearest with one: eng"):
        routing.choose(heard, AVAILABLE, Routes(threshold=0.5))


def test_a_missing_adapter_is_told_with_the_nearest() -> None:
    routing.require(["eng", "nob"], AVAILABLE, "adapters")
    message = r"adapters: no adapter for azj \(nearest: azj-script_latin, azj-script_cyrillic\); nno \(nearest: nob\)"
    with pytest.raises(ValueError, match=message + r"; there are 7: azj-script_cyrillic, azj-script_latin, cmn"):
        routing.require(["azj", "eng", "nno"], AVAILABLE, "adapters")
    with pytest.raises(ValueError, match=r"no adapter for zul \(nearest: none\)"):
        routing.require(["zul"], ["eng"], "adapters")
