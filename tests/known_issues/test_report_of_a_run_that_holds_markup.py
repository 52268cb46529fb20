"""A scores.json with markup in it made a page that left for another site (meta refresh) when it was opened.

Every text of every file that a report reads is replaced by markup, one after the other: the page has no element and no
attribute more than without it, or there is no page and a message that names file and key.
"""

import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mms_recipes.report import __main__ as command
from tests.unit import test_report_lid as lid
from tests.unit.evaluations import utterance, write_benchmark, write_run

REFRESH = '<meta http-equiv=refresh content="0;url=https://evil.example/">'
MARKUP = f"'\"></style></script>{REFRESH}<injected-x onerror=alert(1)><b id=injected>" + '" onmouseover="alert(1)'

Key = tuple[str | int, ...]


class Elements(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.refreshes = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, name) for name, _ in attrs} | {(tag, "")}
        self.refreshes += ("http-equiv", "refresh") in attrs


def texts(document: Any, at: Key = ()) -> Iterator[tuple[Key, bool]]:
    """Where a text can stand in a document: every value, and every name (True); of languages and lists the first."""
    if isinstance(document, dict):
        for name, value in [*document.items()][: 1 if at and at[-1] in ("languages", "answers", "corpora") else None]:
            yield (*at, name), True
            yield from texts(value, (*at, name))
    elif isinstance(document, list):
        for place, value in enumerate(document[:1]):
            yield from texts(value, (*at, place))
    else:
        yield at, False  # a number too: whoever wrote the file may have put a text


def with_markup(document: Any, at: Key, is_name: bool) -> Any:
    """A copy of a document with markup at a place."""
    copy = json.loads(json.dumps(document))
    inside = copy
    for step in at[:-1]:
        inside = inside[step]
    if is_name:
        inside[MARKUP] = inside.pop(at[-1])
    else:
        inside[at[-1]] = MARKUP
    return copy


def check_page(page: Path, plain: Elements, capsys: pytest.CaptureFixture[str]) -> bool:
    """Report the run of a page's folder and look at what came of it; return whether there is a page."""
    page.unlink(missing_ok=True)
    code = command.main([str(page.parent)])
    said = capsys.readouterr().err
    if code:
        assert not page.exists() and said.startswith(str(page.parent)), said
        return False
    shown = Elements(page)
    assert shown.found <= plain.found, shown.found - plain.found
    assert not shown.refreshes
    return True


@pytest.mark.parametrize("kind", ["recognition", "identification"])
def test_markup_anywhere_in_scores_json(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_benchmark(tmp_path / "run") if kind == "recognition" else lid.write_two(tmp_path, "one", "two")[0]
    path, page = run / "scores.json", run / "report.html"
    document = json.loads(path.read_text())
    assert command.main([str(run)]) == 0
    plain, pages = Elements(page), 0
    for at, is_name in texts(document):
        path.write_text(json.dumps(with_markup(document, at, is_name)))
        pages += check_page(page, plain, capsys)
    assert pages > 10


@pytest.mark.parametrize(
    ("kind", "file"),
    [("recognition", "hypotheses.tsv"), ("recognition", "words.tsv"), ("identification", "predictions.tsv")],
)
def test_markup_in_a_column_of_a_table(
    tmp_path: Path, kind: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_benchmark(tmp_path / "run") if kind == "recognition" else lid.write_two(tmp_path, "one", "two")[0]
    assert command.main([str(run)]) == 0
    plain, path = Elements(run / "report.html"), run / file
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    pages = 0
    for column in range(len(header)):
        for changed in ([header, *rows], [header]):  # the cells of a column, or its name
            lines = [[*row[:column], MARKUP, *row[column + 1 :]] if row not in changed[:-1] else row for row in changed]
            lines = lines if len(changed) > 1 else [*lines, *rows]
            path.write_text("".join("\t".join(row) + "\n" for row in lines))
            pages += check_page(run / "report.html", plain, capsys)
    assert pages


def test_markup_in_the_names_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain_run = write_benchmark(tmp_path / "plain")
    assert command.main([str(plain_run)]) == 0
    run = write_benchmark(tmp_path / MARKUP.replace("/", "\N{DIVISION SLASH}"))
    document = json.loads((run / "scores.json").read_text())
    del document["settings"]["name"]
    (run / "scores.json").write_text(json.dumps(document))
    assert check_page(run / "report.html", Elements(plain_run / "report.html"), capsys)


def test_the_page_forbids_the_rest(tmp_path: Path) -> None:
    run = write_benchmark(tmp_path / "run")
    assert command.main([str(run)]) == 0
    head = (run / "report.html").read_text().split("<title>")[0]
    rules = ("default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "base-uri 'none'", "form-action 'none'")
    assert all(rule in head for rule in rules)
    assert "unsafe" not in head


def test_a_name_is_no_formula_in_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = write_run(tmp_path / "run", [utterance("eng", "e1", "the cat", "the cat")], name="_$\\frac{$")
    assert command.main([str(run), "--png", str(tmp_path)]) == 0
    assert (tmp_path / "cer.png").is_file()
