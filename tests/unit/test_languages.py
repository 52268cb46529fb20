"""The language table, its sets, and what is said of a name that is not in it."""

from itertools import chain
from pathlib import Path

import pytest

from mms_recipes import languages

HEADER = "\t".join(languages.COLUMNS)

SET_SIZES = {
    "asr_all1162": (1198, 1159),
    "asr_l1107": (1143, 1107),
    "asr_fl102": (102, 102),
    "fleurs61": (61, 61),
    "fleurs54": (54, 54),
    "lid126": (126, 126),
    "lid256": (256, 256),
    "lid4017": (4017, 4017),
    "tts1107": (1143, 1107),
}


@pytest.fixture
def extra_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "extra.tsv"
    monkeypatch.setenv(languages.EXTRA_TABLE_VARIABLE, str(path))
    return path


def test_every_set_has_its_size() -> None:
    assert languages.set_names() == tuple(sorted(SET_SIZES))
    for name, (ids, codes) in SET_SIZES.items():
        found = languages.resolve([name])
        assert (len(found), len({languages.language(lang).iso639_3 for lang in found})) == (ids, codes), name


def test_a_row_holds_all_columns() -> None:
    row = languages.language("azj-script_latin")
    assert (row.iso639_3, row.variant, row.script, row.fleurs) == ("azj", "script_latin", "Latn", "az_az")
    assert row.name == "North Azerbaijani (script_latin)"
    assert "fleurs54" in row.sets and "lid126" not in row.sets
    assert languages.language("xdn").name == ""


def test_resolve_mixes_ids_and_sets_in_first_seen_order() -> None:
    fleurs = languages.resolve(["fleurs54"])
    assert languages.resolve(["zul", "fleurs54", "zul", "abk"]) == ["zul", *(x for x in fleurs if x != "zul"), "abk"]
    assert languages.resolve(" fra, eng ,fra") == ["fra", "eng"]
    assert languages.resolve(["lid"]) == ["lid"]  # Nyindrou, not a set


@pytest.mark.parametrize("names", [[], "", " , "])
def test_resolve_wants_at_least_one_name(names: list[str] | str) -> None:
    with pytest.raises(ValueError, match=r"no language was named; give ids such as eng, or sets: asr_all1162"):
        languages.resolve(names)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("english", "eng (English)"),
        ("English", "eng (English)"),
        ("ENG", "eng (English)"),
        ("en_us", "eng (English)"),
        ("en-US", "eng (English)"),
        ("franch", "fra (French)"),
        ("chinese", "cmn (Mandarin Chinese)"),
        ("chinese", "yue (Yue Chinese)"),
        ("cmn_hans", "cmn-script_simplified"),
        ("azj-script_latn", "azj-script_latin"),
        ("asr_l1106", "asr_l1107"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(wrong: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"unknown language or set") as error:
        languages.resolve(["eng", wrong])
    nearest = str(error.value).partition("nearest: ")[2].partition(". Ids are")[0]
    assert hint in nearest
    assert f"unknown language or set {wrong!r}" in str(error.value)
    assert languages.EXTRA_TABLE_VARIABLE in str(error.value)
    assert "asr_fl102" in str(error.value)


def test_nothing_near_is_said_so() -> None:
    with pytest.raises(ValueError, match="nearest: none"):
        languages.language("qqq")


def test_every_fleurs_code_finds_its_language() -> None:
    rows = [row for row in languages.table().values() if row.fleurs]
    assert len(rows) == 102
    assert {row.id for row in rows} == set(languages.resolve("asr_fl102"))
    assert all(languages.from_fleurs(row.fleurs) is row for row in rows)
    with pytest.raises(ValueError, match=r"unknown FLEURS code 'en_gb'; nearest: en_us.*MMS_RECIPES_LANGUAGES"):
        languages.from_fleurs("en_gb")
    with pytest.raises(ValueError, match=r"unknown FLEURS code ''"):
        languages.from_fleurs("")


@pytest.mark.parametrize("num_shards", [1, 2, 7, 64])
def test_shards_are_disjoint_even_and_whole(num_shards: int) -> None:
    langs = languages.resolve("asr_l1107")
    shards = [languages.shard(langs, num_shards, number) for number in range(num_shards)]
    assert sorted(chain.from_iterable(shards)) == sorted(langs)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert shards == [languages.shard(langs, num_shards, number) for number in range(num_shards)]


@pytest.mark.parametrize(
    ("num_shards", "shard", "message"),
    [
        (0, 0, "num_shards is 0, expected at least 1"),
        (2, 2, "shard is 2, expected 0 to 1"),
        (2, -1, "shard is -1, expected 0 to 1"),
        (3, 0, "3 shards for 2 languages: some would be empty; lower num_shards"),
    ],
)
def test_shards_out_of_range_are_refused(num_shards: int, shard: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        languages.shard(["eng", "fra"], num_shards, shard)


def test_character_scored_goes_by_iso_code() -> None:
    assert languages.is_character_scored("cmn-script_simplified")
    assert languages.is_character_scored("tha")
    assert not languages.is_character_scored("eng")
    assert not languages.is_character_scored("kor")
    assert " ".join(sorted(languages.CHARACTER_SCORED)) == "adx bod cmn dzo jpn khg khm lao mya tha yue"


def test_extra_table_adds_languages(extra_table: Path) -> None:
    extra_table.write_text(f"{HEADER}\nqaa-script_x\tqaa\tscript_x\tMade Up\tLatn\tqa_qa\tmine\n")
    assert languages.resolve("mine,eng") == ["qaa-script_x", "eng"]
    assert languages.from_fleurs("qa_qa").name == "Made Up"


def test_extra_table_must_exist(extra_table: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"\$MMS_RECIPES_LANGUAGES is .*extra.tsv.*no such file; unset or mend it"
    ):
        languages.table()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\tname\n", r"extra.tsv:1: header is \['id', 'name'\], expected \['id', 'iso639_3'"),
        (f"{HEADER}\nqaa\tqaa\n", r"extra.tsv:2: 2 columns, expected 7"),
        (f"{HEADER}\nqaa\tqaa\t\t\t\t\t\nqaa\tqaa\t\t\t\t\t\n", r"extra.tsv:3: the id 'qaa' is empty or a second time"),
        (f"{HEADER}\n\tqaa\t\t\t\t\t\n", r"extra.tsv:2: the id '' is empty or a second time"),
        (f"{HEADER}\neng\teng\t\t\t\t\t\n", r"extra.tsv: eng already in .*languages.tsv"),
    ],
)
def test_malformed_extra_tables_are_refused(extra_table: Path, content: str, message: str) -> None:
    extra_table.write_text(content)
    with pytest.raises(ValueError, match=message):
        languages.table()


def test_a_missing_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(languages, "__file__", str(tmp_path / "mms_recipes" / "languages.py"))
    with pytest.raises(FileNotFoundError, match=r"no languages.tsv at .*mms_recipes/manifests.* nor .*install"):
        languages.table()


def test_the_table_inside_an_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mms_recipes" / "manifests"
    folder.mkdir(parents=True)
    (folder / "languages.tsv").write_text(f"{HEADER}\nqab\tqab\t\tInstalled\t\t\t\n")
    monkeypatch.setattr(languages, "__file__", str(tmp_path / "mms_recipes" / "languages.py"))
    assert list(languages.table()) == ["qab"]


def test_a_language_is_shown_with_its_name() -> None:
    assert languages.name("eng") == "English" and languages.named("eng") == "eng (English)"
    assert languages.name("qqq") == languages.named("qqq") == "qqq"
