"""What a subcommand prints: for people with colours on a terminal, for programs as one JSON value a line.

Results go to stdout, everything else (progress, questions, errors) to stderr. Colours appear on a terminal only, and
not with NO_COLOR or TERM=dumb; rich sees to that. What comes from servers is printed without control characters.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

_PIPE_COLUMNS: Final = 10_000
"""Into a file or pipe nothing is wrapped or cut."""

Cell = str | tuple[str, str]
"""A text, or a text and its style: `good`, `bad`, `doubtful`, `quiet`."""
_STYLES: Final = {"good": "green", "bad": "bold red", "doubtful": "yellow", "quiet": "dim"}


@final
class Output:
    """Where a subcommand prints."""

    def __init__(self) -> None:
        self.is_json = False
        """Whether `--json` was given: then `json` is what to call, and nothing else."""

    @property
    def console(self) -> "Console":
        """Stdout, for what `table` and `line` cannot do."""
        return _console(sys.stdout)

    def json(self, value: Any) -> None:
        """One value on one line."""
        text = json.dumps(value, ensure_ascii=False)
        if not text.isascii() and any("\ud800" <= each <= "\udfff" for each in text):
            text = json.dumps(value)  # the name of a file need not be UTF-8
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def line(self, text: str, style: str = "") -> None:
        """A line for people."""
        from rich.text import Text  # noqa: PLC0415 -- --json needs no rich

        # Broken by the terminal alone: what is copied or read by a program is a line.
        self.console.print(Text(printable(text), style=_STYLES.get(style, style)), soft_wrap=True)

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[str] = ()) -> None:
        """Rows under titles; those of `right` are numbers, which stand to the right."""
        self.console.print(table(titles, rows, right=right))

    @contextlib.contextmanager
    def progress(self) -> "Iterator[Progress]":
        """Bars on stderr while something takes long, on a terminal only; rich's `add_task` and `advance` fill them."""
        from rich import progress  # noqa: PLC0415 -- few need it

        console = _console(sys.stderr)
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=console, disable=not console.is_terminal) as shown:
            yield shown

    def note(self, text: str) -> None:
        """A line beside the result, for people: on stderr, also with `--json`."""
        sys.stderr.write(printable(text) + "\n")
        sys.stderr.flush()


def table(titles: Sequence[str], rows: Sequence[Sequence[Cell]], *, right: Sequence[str] = ()) -> "Table":
    """A table without lines, as `grep` and people like it."""
    from rich.table import Table  # noqa: PLC0415 -- --json needs no rich
    from rich.text import Text  # noqa: PLC0415 -- the same

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_header=any(titles))
    for title in titles:
        made.add_column(title, justify="right" if title in right else "left", overflow="fold")
    for row in rows:
        cells = [(cell, "") if isinstance(cell, str) else cell for cell in row]
        made.add_row(*(Text(printable(text), style=_STYLES.get(style, style)) for text, style in cells))
    return made


def printable(text: str) -> str:
    """A text that changes nothing on a terminal, whatever a server says."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _console(file: Any) -> "Console":
    from rich.console import Console  # noqa: PLC0415 -- --json needs no rich

    class Piped(Console):
        """Lets the end of a pipe be told by our exit code; rich's own is 1."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    width = None if file.isatty() else _PIPE_COLUMNS
    return Piped(file=file, width=width, highlight=False, markup=False, emoji=False)
