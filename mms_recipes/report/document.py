"""The frame of every page: one file with its style and script, from which no request leaves."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path


def document(title: str, parts: Sequence[str], sources: str) -> str:
    """Return a page of these parts; `sources` says what else it may load (a directive such as `img-src data:`).

    Its policy lets no request out and no script run but its own, whatever the texts hold.
    """
    script, style = (Path(__file__).with_name(f"page.{suffix}").read_text(encoding="utf-8") for suffix in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; {sources}"
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
