"""The progress bar of all long work."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

__all__ = ["progress_bar", "task_bar"]


class _Note(ProgressColumn):
    """What a task's ``note`` says, if it has one."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


def progress_bar(enabled: bool, *, stderr: bool = False) -> Progress:
    """Return the progress bar of all long work: description, bar, count, note, time left.

    Args:
        enabled: whether to show it.
        stderr: draw it there, where stdout is for results.
    """
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Note(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True) if stderr else None,
        disable=not enabled,
    )


def task_bar(title: str, total: int, enabled: bool, *, done: int = 0) -> Progress:
    """Return a bar on stderr with a single task, the first of its ``task_ids``, ``done`` of it already."""
    bar = progress_bar(enabled, stderr=True)
    bar.add_task(title, total=total, completed=done)
    return bar
