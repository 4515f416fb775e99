"""The whole page: what is read, the order of its sections, and what keeps it to itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Literal

from idemvox.corpus.manifest import Manifest
from idemvox.files import atomic_write
from idemvox.reports.page.clips import Clips
from idemvox.reports.page.html import note, section
from idemvox.reports.page.places import System, read_places
from idemvox.reports.page.results import conventions, trial_list
from idemvox.reports.page.training import training
from idemvox.reports.page.voices import voices

__all__ = ["Audio", "report_page"]

Audio = Literal["none", "worst", "all"]
"""What can be played: nothing, the worst errors, or also the points of the t-SNE."""


def report_page(
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    manifest: Manifest | None = None,
    root: Path | None = None,
    title: str = "Speaker verification report",
    audio: Audio = "all",
    device: str | None = None,
    progress: bool = False,
) -> Path:
    """Write the report page of certificates and runs; systems on the same trials are compared with the first.

    Args:
        folders: certificates, folders of them, runs and models, in the order of the page.
        out: the HTML file.
        manifest: names the utterances of the trials; gives results by condition, players, and for runs a
            t-SNE of some of its speakers.
        root: instead of a manifest, the folder that the paths in the trials start from; gives players alone.
        title: heading of the page.
        audio: what can be played. At most 20 MB of audio is written into the page.
        device: of the models, for the t-SNE.
        progress: show progress bars.

    Raises:
        IdemvoxError: a folder has nothing to report, or a certificate is not in order or given twice.
    """
    systems, runs = read_places(folders)
    source = root if manifest is None else manifest
    clips = None if audio == "none" or source is None else Clips()
    parts = _lists(systems, source, clips)
    if curves := [run for run in runs if run.curves]:
        parts.append(("training", "Training", training(curves)))
    if models := [run for run in runs if run.model is not None]:
        heard = clips if audio == "all" else None
        parts.append(("voices", "Voices", voices(models, manifest, heard, device, progress)))
    if systems:
        parts.append(("how", "How it was measured", conventions(systems)))
    links = "".join(f'<li><a href="#{name}">{escape(words)}</a></li>' for name, words, _ in parts)
    said = _audio_words(audio, clips)
    checked = "Every result was computed again from the scores when this page was made." if systems else ""
    with atomic_write(out) as file:
        file.write(
            f'<!doctype html>\n<html lang="en">{_head(title)}'
            f'<body><a class="skip" href="#main">Skip to the results</a><header><h1>{escape(title)}</h1>'
            f'<p>{checked}</p>{note(said)}<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
            f'<main id="main">{"".join(section(*part) for part in parts)}</main>'
            f"<script>{_part('page.js')}</script></body></html>\n"
        )
    return Path(out)


def _lists(
    systems: Sequence[System], source: Manifest | Path | None, clips: Clips | None
) -> list[tuple[str, str, str]]:
    """Return the sections of the trial lists: id, title and content of each."""
    lists: dict[str, list[System]] = {}
    for system in systems:
        lists.setdefault(system.certificate.values["trials"]["sha256"], []).append(system)
    return [
        (f"list-{n}", group[0].trials, trial_list(f"list-{n}", group, source, clips))
        for n, group in enumerate(lists.values(), 1)
    ]


def _head(title: str) -> str:
    """Return the head of the page. Its policy allows no address on any network, and no script but ours."""
    sha = base64.b64encode(hashlib.sha256(_part("page.js").encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{sha}'; media-src data:;"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    return (
        f'<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_part('page.css')}</style></head>"
    )


def _part(name: str) -> str:
    """Return the style sheet or the script."""
    return resources.files("idemvox.reports.page").joinpath(name).read_text(encoding="utf-8")


def _audio_words(audio: Audio, clips: Clips | None) -> str:
    """Return what a reader should know about the recordings in the page, or why there are none."""
    if clips is not None:
        return clips.words
    if audio == "none":
        return "Recordings were left out (--audio none)."
    return "There are no players, because nothing says where the recordings are (--manifest or --root)."
