"""Output of the command line: results on standard output, messages on standard error.

Exceptions become messages and exit statuses here only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar
from rich.segment import Segment

from SaliencyExplain.errors import Cancelled, ErrorCode, SaliencyExplainError
from SaliencyExplain.json_text import json_text
from SaliencyExplain.plain_text import visible, visible_line
from SaliencyExplain.progress import Progress

if TYPE_CHECKING:
    from SaliencyExplain.studies.run import StudyProgress
    from SaliencyExplain.training.epochs import TrainingProgress

BAD_INPUT = 2
#: Some cases of a study, or some of the methods of one image, gave no result.
SOME_CASES_FAILED = 3
INTERRUPTED = 130
#: Signals after which a command cleans up and ends.
_ENDING = ("SIGTERM", "SIGHUP", "SIGBREAK")
#: Nothing more can be written.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Typer carries a click of its own since 0.16 and used the package before: the base of
# its own errors is the right one with either.
UsageError: type[Exception] = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)

#: Columns where the output goes into a file or pipe and has no width of its own.
_WIDTH = None if sys.stdout is not None and sys.stdout.isatty() else 120


class _Visible(RenderHook):
    """Shows what is printed without characters that would act on the terminal."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(one) for one in renderables]


class _Shown:
    """What a renderable shows, its characters that act as escapes; its own styles stay."""

    def __init__(self, content: ConsoleRenderable) -> None:
        self.content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in console.render(self.content, options):
            shown = segment if segment.control else Segment(visible(segment.text), segment.style)
            yield shown


class _VisibleLog(logging.Formatter):
    """Log lines and tracebacks without characters that would act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _console(*, stderr: bool = False, width: int | None = None) -> Console:
    """A console on which names of files, classes and cases are text: no markup, no escapes."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)
    made.push_render_hook(_Visible())
    return made


console = _console(width=_WIDTH)
aside = _console(stderr=True)


def say_error(message: str, code: ErrorCode | None = None) -> None:
    """Prints one line on standard error: ``error:``, the message, and its code in brackets."""
    line = "error: " + visible_line(message)
    print(f"{line} [{code}]" if code else line, file=sys.stderr)


def say_notes(notes: Sequence[str]) -> None:
    """Prints a note for the user on standard error."""
    for note in notes:
        aside.print(f"note: {note}", style="yellow", markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Prints one JSON document on standard output; undefined numbers are null."""
    sys.stdout.write(json_text(document))


@contextlib.contextmanager
def progress_bar(what: str, *, quiet: bool = False) -> Iterator[Progress]:
    """A bar on standard error while the block runs, in a terminal only.

    Args:
        what: Words before the bar.
        quiet: Draw nothing.
    """
    with _bar(quiet, MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(
            task, completed=math.floor(done), total=math.ceil(total)
        )


@contextlib.contextmanager
def study_bar(what: str, *, quiet: bool = False) -> Iterator[Callable[[StudyProgress], None]]:
    """A bar over the cases of a study: how many, which one, failures, time left.

    Args:
        what: Words before the bar.
        quiet: Draw nothing.
    """
    with _bar(quiet, TextColumn("{task.fields[state]}", markup=False)) as bar:
        task = bar.add_task(what, total=None, state="")

        def report(now: StudyProgress) -> None:
            state = f"{math.floor(now.done)}/{now.total} {visible_line(now.case)}"
            if now.failed:
                state += f", {now.failed} failed"
            if now.seconds_left is not None:
                state += f", {timedelta(seconds=round(now.seconds_left))} left"
            bar.update(task, completed=now.done, total=now.total, state=state)

        yield report


@contextlib.contextmanager
def training_bar(*, quiet: bool = False) -> Iterator[Callable[[TrainingProgress], None]]:
    """A bar over the epochs of a training, with the metrics of the last complete one.

    Args:
        quiet: Draw nothing.
    """
    with _bar(quiet, TextColumn("{task.fields[state]}", markup=False)) as bar:
        task = bar.add_task("reading images", total=None, state="")

        def report(now: TrainingProgress) -> None:
            if now.stage == "reading":
                bar.update(
                    task, completed=now.done, total=now.total, state=f"{now.done}/{now.total}"
                )
                return
            state = f"epoch {now.epoch} of at most {now.epochs}"
            if now.figures:
                state += (
                    f", validation loss {now.figures['validation_loss']:.3f}, "
                    f"accuracy {now.figures['validation_accuracy']:.1%}"
                )
            bar.update(
                task,
                description="learning",
                completed=now.epoch - 1 + now.done / now.total,
                total=now.epochs,
                state=state,
            )

        yield report


def _bar(quiet: bool, *columns: ProgressColumn) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        console=aside,
        transient=True,
        disable=quiet or not aside.is_terminal,
    )


def _clean_up_on_signals() -> None:
    """SIGHUP and SIGTERM end a command as Ctrl-C does: private files are deleted.

    A command that was started to outlive its terminal (``nohup``) goes on.
    """
    numbers = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
    ending = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

    def interrupt(_number: int, _frame: object) -> None:
        # A session that ends sends several: the second one must not interrupt the clean-up.
        # Not SIG_IGN: Python complains of one that has come already.
        for each in ending:
            signal.signal(each, lambda _number, _frame: None)
        raise KeyboardInterrupt

    for number in ending:
        signal.signal(number, interrupt)


#: Codes of errors of usage, by the names of their classes.
_USAGE_CODES = {
    "MissingParameter": ErrorCode.OPTION_MISSING,
    "NoSuchOption": ErrorCode.NAME_UNKNOWN,
    "BadParameter": ErrorCode.VALUE_FORM,
}


def _of_usage(error: Exception) -> tuple[str, ErrorCode]:
    """The message for a command line that cannot be read: what is wrong, and which help to read."""
    message = error.format_message().strip()  # type: ignore[attr-defined]
    code = next(
        (
            _USAGE_CODES[kind.__name__]
            for kind in type(error).__mro__
            if kind.__name__ in _USAGE_CODES
        ),
        ErrorCode.NAME_UNKNOWN if "No such command" in message else ErrorCode.VALUE_FORM,
    )
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "saliency-explain"
    end = "" if message.endswith((".", "?", "!")) else "."
    return f"{message}{end} Run '{command} --help' for the commands and options.", code


def run(application: typer.Typer, arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and turns how it ended into an exit status."""
    _clean_up_on_signals()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_VisibleLog())
    try:
        with warnings.catch_warnings():
            # Warnings of libraries are internal and may quote headers with patients' names; an
            # error is one line. Python's own -W and PYTHONWARNINGS bring them back.
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            status = typer.main.get_command(application).main(
                args=None if arguments is None else list(arguments),
                prog_name="saliency-explain",
                standalone_mode=False,
            )
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())  # type: ignore[attr-defined]
        else:
            say_error(*_of_usage(error))
        return BAD_INPUT
    except SaliencyExplainError as error:
        say_error(str(error), error.code)
        return BAD_INPUT
    except (Cancelled, KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        code = ErrorCode.OUTPUT_UNWRITABLE if error.errno in _FULL else ErrorCode.FILE_UNREADABLE
        say_error(f"{error.filename}: {reason}." if error.filename else f"{reason}.", code)
        return BAD_INPUT
    except MemoryError:
        say_error(
            "there is not enough memory for this image and classifier. Close other programs, or "
            "use a smaller image."
        )
        return BAD_INPUT
    # Typer returns this status for Ctrl-C without a message.
    if status == INTERRUPTED:
        say_error(
            "interrupted; a study or training resumes when started again, other commands start "
            "from the beginning."
        )
    return status if isinstance(status, int) else 0
