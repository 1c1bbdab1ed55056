"""Where log lines go: stderr, stdout, files, each with a writer of its own, so that none waits for another.

A file is opened to append to, and opened again by its name when the operator asks (SIGHUP, after logrotate(8) moved it
away): the new file takes the old one's descriptor, so no line falls between the two.
"""

import os
from collections.abc import Callable
from typing import Final, final

from kvraft import clock
from kvraft.log_forms import Form
from kvraft.log_writer import LineWriter

STDOUT: Final = 1
STDERR: Final = 2
DEFAULT: Final = frozenset({"default", "systemd/journal"})
"""etcd's names for: stderr, and the journal with its priorities if that is what stderr is."""
_STREAMS: Final = {"stdout": STDOUT, "stderr": STDERR, **dict.fromkeys(DEFAULT, STDERR)}
_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Not to wait for the reader of a pipe: without one it cannot be opened. On a file the last one means nothing."""
_MODE: Final = 0o644
"""As etcd's; the umask says less."""


@final
class Output:
    """One place for lines."""

    def __init__(self, name: str, make_form: Callable[[bool], Form], mode: int = _MODE) -> None:
        """Open it.

        Args:
            name: `default`, `stderr`, `stdout`, or the path of a file.
            make_form: what the lines look like, told whether they are for the journal.
            mode: of a file that is made.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path: Final = None if name in _STREAMS else name.removeprefix("file://")
        self.descriptor: Final = _STREAMS[name] if self.path is None else os.open(self.path, _FLAGS, mode)
        self._mode = mode
        self.form: Final = make_form(name in DEFAULT and is_journal(self.descriptor))
        self.writer: Final = LineWriter(self.descriptor, self.form, clock.monotonic_ms)

    def reopen(self) -> None:
        """Write to whatever file has the name now.

        Raises:
            OSError: it cannot be opened; the old one is written to as before.
        """
        if self.path is None:
            return
        new = os.open(self.path, _FLAGS, self._mode)
        try:
            os.dup2(new, self.descriptor, inheritable=False)
        finally:
            os.close(new)


def identity(name: str) -> str:
    """The same for two names of one output."""
    if name in _STREAMS:
        return f"fd {_STREAMS[name]}"
    return os.path.realpath(name.removeprefix("file://"))


def is_journal(descriptor: int) -> bool:
    """Whether the service manager says that this descriptor is the journal's (systemd.exec(5), JOURNAL_STREAM)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        facts = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(facts.st_dev), str(facts.st_ino))
