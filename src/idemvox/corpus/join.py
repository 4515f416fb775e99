"""Joining several manifests into one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from idemvox.corpus.checks.problems import Summary, counted
from idemvox.corpus.manifest import Manifest, Utterance, load_manifest, save_manifest
from idemvox.corpus.prepare import output_file
from idemvox.corpus.several import corpus_names, prefixed, refuse_repeats, refuse_shared
from idemvox.errors import CorpusError
from idemvox.progress import task_bar

__all__ = ["join_manifests"]


def join_manifests(files: Sequence[str | Path], out: str | Path, *, progress: bool = True) -> Summary:
    """Join manifests into one, in the order given; training on it equals training on the list of them.

    Ids, speakers and recordings are prefixed with the corpus's name, from
    :func:`~idemvox.corpus.several.corpus_names`, so that those of two corpora stay apart. Paths start from
    the folder of ``out``. No audio is read.

    Args:
        files: manifests, at least two.
        out: the CSV file to write.
        progress: show a progress bar.

    Raises:
        CorpusError: there are fewer than two manifests; one is a pack, empty, malformed or given twice; two
            of them list the same audio; or ``out`` is one of them.
    """
    paths, out = [Path(file) for file in files], output_file(out)
    _refuse(paths, out)
    names = corpus_names(paths)
    manifests: dict[str, Manifest] = {}
    with task_bar("joining manifests", len(paths) + 1, progress) as bar:
        for name, path in zip(names, paths, strict=True):
            bar.update(bar.task_ids[0], note=f"reading {path}")
            manifests[name] = load_manifest(path)
            if not len(manifests[name]):
                raise CorpusError(f"{path} has no utterances; leave it out")
            bar.advance(bar.task_ids[0])
        bar.update(bar.task_ids[0], note=f"writing {out}")
        refuse_shared(manifests)
        rows = [_row(name, manifest, u) for name, manifest in manifests.items() for u in manifest]
        save_manifest(Manifest(rows, out.parent), out)
        bar.advance(bar.task_ids[0])
    return Summary(
        manifest=out,
        taken=len(rows),
        hours=sum(u.seconds for u in rows) / 3600,
        speakers=len({u.speaker for u in rows if u.speaker is not None}) or None,
        left_out=(),
        notes=tuple(
            f"{prefixed(name, '...')}: {counted(len(manifest), 'utterance')} of {path}"
            for (name, manifest), path in zip(manifests.items(), paths, strict=True)
        ),
        problems=None,
        unit="utterance",
    )


def _refuse(paths: Sequence[Path], out: Path) -> None:
    """Check everything that can be checked before reading a manifest."""
    if len(paths) < 2:
        raise CorpusError("give at least two manifests to join")
    for path in paths:
        if path.is_dir():
            raise CorpusError(
                f"{path} is a folder: give the manifest of its audio, or of the pack; training on several "
                "packs needs no joining: data.manifest=[PACK,PACK]"
            )
        if os.path.realpath(path) == os.path.realpath(out):
            raise CorpusError(f"{out} is one of the manifests to join; choose another output")
    refuse_repeats(paths)


def _row(corpus: str, manifest: Manifest, u: Utterance) -> Utterance:
    """Return an utterance with prefixed names and an absolute path."""
    return replace(
        u,
        id=prefixed(corpus, u.id),
        path=os.path.join(os.path.abspath(manifest.root), u.path),
        speaker=u.speaker and prefixed(corpus, u.speaker),
        recording=u.recording and prefixed(corpus, u.recording),
    )
