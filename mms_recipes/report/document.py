"""The frame of every page: one file with its style and script, from which no request leaves."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from mms_recipes.report import beside


def document(title: str, parts: Sequence[str], sources: str) -> str:
    """Return a page of these parts; `sources` says what else it may load (a directive such as `img-src data:`).

    Its policy lets no request out, and no script or style in but its own, whatever the texts hold.
    """
    script, style = (Path(__file__).with_name(f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("js", "css"))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; {sources}; "
        "base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body>",
            *parts,
            '<div id="player" hidden><code></code><audio controls preload="none"></audio></div>',
            f"<script>{script}</script></body></html>\n",
        ]
    )


def _hash(text: str) -> str:
    """Return what a policy calls an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def head(title: str, facts: Mapping[str, object], settings: str) -> str:
    """Return the title, the facts that are there, the table of all settings (HTML), and the filter box of page.js."""
    listed = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(fact))}</dd></div>" for name, fact in facts.items() if fact
    )
    return (
        f'<h1>{escape(title)}</h1><dl class="facts">{listed}</dl><details><summary>All settings</summary>'
        f'<div class="scroll">{settings}</div></details>'
        '<p class="tools"><label for="filter">Languages</label> <input id="filter" type="search" autocomplete="off" '
        'placeholder="id or name, several with commas"> <span id="found" role="status"></span>'
        '<button type="button" id="open">open all</button><button type="button" id="close">close all</button></p>'
    )


def verdict(benchmark: beside.Benchmark) -> str:
    """Return what keeps a benchmark's scores from being compared with the paper's, and where those stand."""
    said = [f"{text[:1].upper()}{text[1:]}." for text in (beside.verdict(benchmark), beside.unknown(benchmark))]
    return "".join(f"<p>{escape(text)}</p>" for text in (*said, f"MMS paper, {benchmark['source']}"))
