"""The audit log: one JSON object a line, to a file or to stderr, apart from what the member logs of itself.

It is opened once, by the composition root, or never; a file is opened anew by its name on SIGHUP, as logrotate(8)
expects. What a reader of it cannot take is lost rather than waited for, and the next line says how much.
"""

import atexit
import json

from kvraft import clock, logs
from kvraft.log_forms import JsonForm
from kvraft.log_outputs import Output

_MODE = 0o600
"""It names users and keys: for the operator alone."""
_outputs: list[Output] = []


def open_at(name: str) -> None:
    """Write to this file from now on, or to `stderr`.

    Raises:
        OSError: the file cannot be opened.
    """
    assert not _outputs, "opened once"
    output = Output(name, lambda _: JsonForm(timestamp), _MODE)
    _outputs.append(output)
    atexit.register(output.writer.close)


def write(entry: dict[str, object]) -> None:
    """Write an entry, its time before it. Whatever strangers have chosen in it is escaped."""
    line = json.dumps({"ts": timestamp(), **entry}, separators=(",", ":"))
    for output in _outputs:
        output.writer.put_as_it_is(line)


def reopen() -> None:
    """Write to whatever file has the name now."""
    for output in _outputs:
        try:
            output.reopen()
        except OSError as error:
            logs.get(__name__).error(
                "audit log cannot be opened again: the old file is used", path=output.path, error=error
            )


def timestamp() -> str:
    """Now, UTC, in RFC 3339 with milliseconds."""
    milliseconds = clock.wall_ns() // 1_000_000
    return f"{clock.utc_text(milliseconds // 1000)}.{milliseconds % 1000:03}Z"
