"""The progress bar that all commands share."""

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
    """A column with a task's ``note``, if it has one."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


def progress_bar(enabled: bool, *, stderr: bool = False) -> Progress:
    """Return a progress bar: description, bar, count, note, time left.

    Args:
        enabled: whether to show it.
        stderr: draw it on stderr, to keep stdout for results.
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
    """Return a bar on stderr with a single task, its first ``task_ids``, which starts at ``done``."""
    bar = progress_bar(enabled, stderr=True)
    bar.add_task(title, total=total, completed=done)
    return bar
