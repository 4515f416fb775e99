"""One command of ``idemvox prepare`` for each importer, generated from its signature and help."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup, TyperOption

from idemvox.cli.common import Quiet, Workers, console, resumable

if TYPE_CHECKING:
    from idemvox.corpus.importers.registry import Importer

__all__ = ["CorporaCommand", "ImportersGroup"]

Folder = Annotated[Path, typer.Argument(help="The corpus, unpacked as published.")]
Out = Annotated[Path | None, typer.Option("--out", help="Manifest to write; default: FOLDER/manifest.csv")]
MinSeconds = Annotated[float, typer.Option(min=0.01, help="Leave out shorter files.")]


class ImportersGroup(TyperGroup):
    """A command group that adds the importers' commands when they are listed or one of them is called.

    So other commands do not have to import all importers first.
    """

    def _add_importers(self) -> None:
        from idemvox.corpus.importers.registry import IMPORTERS

        app = typer.Typer(rich_markup_mode="rich")
        for name in IMPORTERS:
            importer = IMPORTERS[name]
            app.command(name, help=escape(importer.help))(_command(importer))
        for name, command in typer.main.get_group(app).commands.items():
            self.commands.setdefault(name, command)

    def list_commands(self, ctx: Any) -> list[str]:
        self._add_importers()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_importers()
        return super().get_command(ctx, cmd_name)


class CorporaCommand(TyperCommand):
    """A command whose help for ``--corpus`` lists the corpora with known counts."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from idemvox.corpus.checks.official import corpora

        names = [c.name + (f" ({c.note})" if c.note else "") for c in corpora().values()]
        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "corpus":
                option.help = f"{option.help}: {', '.join(names[:-1])} or {names[-1]}."
        super().format_help(ctx, formatter)


def _command(importer: Importer) -> Callable[..., None]:
    """Return the function that typer turns into a command."""

    def command(folder: Path, out: Path | None, quiet: bool, **options: Any) -> None:
        with resumable():
            summaries = importer.run(folder, out or folder / "manifest.csv", progress=not quiet, **options)
        for summary in summaries:
            console.print(summary.table())

    _, _, *keywords = inspect.signature(importer.prepare, eval_str=True).parameters.values()
    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            _parameter("folder", Folder),
            _parameter("out", Out, None),
            *(_parameter(p.name, _option(p), p.default) for p in keywords if p.name != "progress"),
            _parameter("quiet", Quiet, False),
        ]
    )
    return command


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=default, annotation=annotation)


def _option(parameter: inspect.Parameter) -> Any:
    """Return the typer annotation of an importer's keyword: from its ``Setting``, or a common option."""
    if get_origin(parameter.annotation) is not Annotated:
        return {"min_seconds": MinSeconds, "workers": Workers}[parameter.name]
    kind, setting = get_args(parameter.annotation)
    names = [f"--{parameter.name}"] if kind is bool else []  # a bool would also get --no-NAME
    return Annotated[kind, typer.Option(*names, help=setting.help, min=setting.least)]
