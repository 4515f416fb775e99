"""idemvox enrol, identify and speakers: who is who."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table
from rich.text import Text

from idemvox.cli.common import Device, Quiet, console, fetch_device

if TYPE_CHECKING:
    from idemvox.verifier.enrolment import Enrolment
    from idemvox.verifier.identification import Identification
    from idemvox.verifier.store import SpeakerStore

__all__ = ["enrol", "identify", "speakers"]

Store = Annotated[
    str,
    typer.Option(
        help="The speaker store: an SQLite file, or postgresql://user@host/database.",
        show_default="speakers.sqlite in this folder",
    ),
]
ModelFolder = Annotated[Path, typer.Option(help="A run folder, or the model folder in it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

speakers = typer.Typer(
    name="speakers",
    no_args_is_help=True,
    help="Look into a speaker store: list, show, delete, export, import.\n\n"
    "Example:\n\n"
    "  idemvox speakers list\n\n"
    "  idemvox speakers show Anna\n\n"
    "  idemvox speakers export backup.jsonl",
)


def enrol(
    name: Annotated[str, typer.Argument(help="Name of the speaker, new or known: any text.")],
    recordings: Annotated[list[Path], typer.Argument(help="One or more recordings of the speaker.")],
    model: ModelFolder,
    store: Store = "speakers.sqlite",
    channel: Annotated[
        str, typer.Option(help="How it was recorded, such as phone; channels are kept apart.")
    ] = "",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Enrol a speaker: store what identifies the voice, not the audio.

    All recordings are enrolled, or none. Enrol the same name again to add recordings; a few, from different
    days, are better than one. The first call makes the store, which from then on belongs to this model.

    Example:

      idemvox enrol Anna monday.wav tuesday.wav --model runs/ssps

      idemvox enrol Anna call.wav --channel phone --model runs/ssps
    """
    from idemvox.verifier.opening import open_store
    from idemvox.verifier.verifier import Verifier

    verifier = Verifier.load(model, device=fetch_device(device))
    added = verifier.enrol(name, recordings, store=store, channel=channel)
    with open_store(store) as opened:
        total = len(opened.enrolments(name))
    if as_json:
        _print_json(
            {"speaker": name.strip(), "added": added.count, "known": added.known, "enrolments": total}
        )
        return
    for source in added.known:
        _say(f"{source} was enrolled before, and is not added twice")
    _say(f"{name.strip()}: {_count(added.count, 'recording')} added, {total} in all; store: {store}")


def identify(
    recordings: Annotated[list[Path], typer.Argument(help="One or more recordings, each of one speaker.")],
    model: ModelFolder,
    store: Store = "speakers.sqlite",
    top: Annotated[int, typer.Option(min=1, help="Most candidates to show.")] = 5,
    channel: Annotated[
        str | None, typer.Option(help="Compare only with enrolments of this channel; default: with all.")
    ] = None,
    combining: Annotated[
        Literal["mean", "best"],
        typer.Option(help="Several enrolments in a channel: compare with their mean, or with the best."),
    ] = "mean",
    false_accept_rate: Annotated[
        float, typer.Option(help="Share of strangers that may be given a name, 0.01 for 1 %.")
    ] = 0.01,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Say whose voice a recording is, among the speakers of a store, or that it is nobody's.

    "Nobody" needs a calibrated model (`idemvox calibrate`); otherwise the best matches are shown, and you
    decide. The more speakers there are, the higher a match must be.

    Example:

      idemvox identify call.wav --model runs/ssps
    """
    from idemvox.verifier.opening import open_store
    from idemvox.verifier.verifier import Verifier

    verifier = Verifier.load(model, device=fetch_device(device))
    found = []
    with open_store(store, verifier.fingerprint) as opened:
        for path in recordings:
            result = verifier.identify(
                path,
                top,
                store=opened,
                channel=channel,
                combining=combining,
                false_accept_rate=false_accept_rate,
            )
            found.append((path, result))
            if not as_json:
                _say(f"{path}: {result}")
                console.print(_candidates_table(result))
    if as_json:
        _print_json([{"recording": str(path), **_as_json(result)} for path, result in found])


@speakers.command("list")
def list_(store: Store = "speakers.sqlite", as_json: Json = False) -> None:
    """List the speakers, with the number of enrolments in each channel.

    Example:

      idemvox speakers list --store speakers.sqlite
    """
    with _opened(store) as opened:
        rows: list[dict[str, Any]] = [
            {
                "speaker": name,
                "enrolments": len(mine),
                "channels": _channels(mine),
                "first": min(e.added for e in mine),
                "last": max(e.added for e in mine),
            }
            for name, mine in _by_speaker(opened)
        ]
    if as_json:
        _print_json(rows)
        return
    table = _table("speaker", "enrolments", "channels", "last added", right=("enrolments",))
    for row in rows:
        shown = ", ".join(f"{channel or 'none'} {count}" for channel, count in row["channels"].items())
        table.add_row(Text(row["speaker"]), str(row["enrolments"]), Text(shown), Text(_day(row["last"])))
    console.print(table)
    _say(f"{_count(len(rows), 'speaker')} in {store}")


@speakers.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the speaker.")],
    store: Store = "speakers.sqlite",
    as_json: Json = False,
) -> None:
    """Show the enrolments of a speaker.

    Example:

      idemvox speakers show Anna
    """
    with _opened(store) as opened:
        mine = opened.enrolments(name)
    if as_json:
        _print_json([asdict(enrolment) for enrolment in mine])
        return
    table = _table("recording", "channel", "seconds of speech", "band", "added", right=("seconds of speech",))
    for e in mine:
        band = {None: "", True: "telephone", False: "wide"}[e.narrow]
        seconds = "" if e.seconds is None else f"{e.seconds:.1f}"
        table.add_row(Text(e.source), Text(e.channel), seconds, band, Text(_day(e.added)))
    console.print(table)


@speakers.command()
def delete(
    name: Annotated[str, typer.Argument(help="Name of the speaker.")],
    channel: Annotated[str | None, typer.Option(help="Delete only the enrolments of this channel.")] = None,
    store: Store = "speakers.sqlite",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a speaker, and overwrite the embeddings in the store's files.

    Exports and copies of the store still hold them, and the disk may keep old blocks.

    Example:

      idemvox speakers delete Anna --channel phone
    """
    with _opened(store) as opened:
        count = len([e for e in opened.enrolments(name) if channel is None or e.channel == channel.strip()])
        if not yes and count:
            typer.confirm(f"Delete {_count(count, 'enrolment')} of {name}?", abort=True, err=True)
        count = opened.delete(name, channel=channel)
    if as_json:
        _print_json({"speaker": name.strip(), "deleted": count})
        return
    _say(f"{name.strip()}: {_count(count, 'enrolment')} deleted")


@speakers.command()
def export(
    file: Annotated[Path, typer.Argument(help="File to write, such as speakers.jsonl.")],
    store: Store = "speakers.sqlite",
    quiet: Quiet = False,
) -> None:
    """Write all enrolments to a file of JSON lines, to back them up or move them.

    Example:

      idemvox speakers export backup.jsonl
    """
    from idemvox.verifier.transfer import export_speakers

    with _opened(store) as opened:
        count = export_speakers(opened, file, progress=not quiet)
    _say(f"{_count(count, 'enrolment')} exported: {file}")


@speakers.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="File written by `idemvox speakers export`.")],
    store: Store = "speakers.sqlite",
    quiet: Quiet = False,
) -> None:
    """Add the enrolments of an exported file to a store, which is made if there is none.

    Either all are added or none. Those that the store has already are not added twice.

    Example:

      idemvox speakers import backup.jsonl --store restored.sqlite
    """
    from idemvox.verifier.opening import open_store
    from idemvox.verifier.transfer import exported_model, import_speakers

    with open_store(store, exported_model(file), create=True) as opened:
        added = import_speakers(opened, file, progress=not quiet)
    known = f", {len(added.known):,} were there already" if added.known else ""
    _say(f"{_count(added.count, 'enrolment')} imported{known}; store: {store}")


def _opened(store: str) -> SpeakerStore:
    from idemvox.verifier.opening import open_store

    return open_store(store)


def _by_speaker(store: SpeakerStore) -> list[tuple[str, list[Enrolment]]]:
    """Return the enrolments of each speaker, in the order of the names."""
    found = [(name, list(mine)) for name, mine in groupby(store.enrolments(), key=lambda e: e.speaker)]
    return sorted(found, key=lambda pair: (pair[0].casefold(), pair[0]))


def _channels(enrolments: list[Enrolment]) -> dict[str, int]:
    """Return the number of enrolments in each channel."""
    names = [enrolment.channel for enrolment in enrolments]
    return {name: names.count(name) for name in sorted(set(names))}


def _candidates_table(found: Identification) -> Table:
    columns = ["speaker", "score", "log-likelihood ratio", "channel"]
    table = _table(*columns, right=columns[1:3])
    for c in found.candidates:
        llr = "unknown" if c.llr is None else f"{c.llr:.2f}"
        table.add_row(Text(c.speaker), f"{c.score:.3f}", llr, Text(c.channel))
    return table


def _as_json(found: Identification) -> dict[str, Any]:
    return {"speaker": found.speaker, **asdict(found), "words": str(found)}


def _table(*columns: str, right: Any = ()) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    return table


def _day(moment: str) -> str:
    return moment[:10]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _say(text: str) -> None:
    console.print(text, markup=False, highlight=False)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))
