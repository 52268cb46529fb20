"""Sound for the utterances of a page: links to files beside it, or the audio itself inside it."""

import base64
import os
import urllib.parse
from collections.abc import Iterable, Mapping
from pathlib import Path

from mms_recipes import audio_files, files, manifest
from mms_recipes.report.runs import Key

_KINDS = {b"RIFF": "audio/wav", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}  # by first bytes; anything else is MPEG


def find_audio(data: Path, split: str, uids: Mapping[str, Iterable[str]]) -> dict[Key, Path]:
    """Return the path (of a file, or in a shard) of each utterance that the manifests of `data` have.

    `uids` are those wanted of each language. Raises ValueError when `data` has none of them, FileNotFoundError when it
    is no folder.
    """
    if not data.is_dir():
        raise FileNotFoundError(f"{data}: no such folder; expected that of the manifests, as in data=... of evaluate")
    found: dict[Key, Path] = {}
    for lang, wanted in uids.items():
        folder, table = files.inside(data, lang), f"{files.plain_name(split, data, 'split')}.tsv"
        if not (folder / table).is_file():
            continue
        rows = manifest.read_manifest(folder / table)
        labels = manifest.read_labels(folder, split, len(rows))
        places = {uid: row for row, uid in enumerate(labels.uids)}
        found |= {(lang, uid): rows.path(places[uid]) for uid in wanted if uid in places}
    if not found:
        raise ValueError(
            f"{data}: none of the utterances is in its manifests; expected {data / 'LANG' / split}.tsv and .uid, "
            "as they were when the runs were evaluated"
        )
    return found


def sources(paths: Mapping[Key, Path], page: Path, embed: int, embed_files: bool) -> dict[Key, str]:
    """Return what a player on `page` opens for each utterance whose audio is there: a relative link or a data: URI.

    Audio in shards has no link and is embedded; files too with `embed_files`. The first `embed` are, in the order of
    `paths`; files beyond that are linked.
    """
    found: dict[Key, str] = {}
    for key, path in paths.items():
        in_shard = audio_files.find_member(path) is not None
        if embed > 0 and (in_shard or embed_files):
            try:
                found[key] = data_uri(audio_files.read_bytes(path))
                embed -= 1
            except audio_files.AudioError:
                continue  # no audio, no player
        elif not in_shard and path.is_file():
            found[key] = link(path, page)
    return found


def data_uri(audio: bytes) -> str:
    """Return audio as a URI that holds it."""
    return f"data:{_KINDS.get(audio[:4], 'audio/mpeg')};base64,{base64.b64encode(audio).decode('ascii')}"


def link(path: Path, page: Path) -> str:
    """Return the relative URL of a file from a page; both can be moved as long as they keep their places."""
    relative = os.path.relpath(path.absolute(), page.absolute().parent).replace(os.sep, "/")
    return "./" + urllib.parse.quote(os.fsencode(relative))  # ./ as a colon in the first part would look like a scheme
