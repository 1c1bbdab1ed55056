"""Kills what this process started, also when this process is killed with SIGKILL.

A child process holds the read end of a pipe whose only writer is us. It is told of every process group that is
started and ended; when the pipe closes, for whatever reason, it kills the groups that are left. (PR_SET_PDEATHSIG
would do the same per child, but fires when the *thread* that forked it ends.)
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import IO

_REAPER = """
import os, signal, sys
groups = set()
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        continue
"""

_lock = threading.Lock()
_reaper: subprocess.Popen[str] | None = None


def hold(group: int) -> None:
    """Kill this process group when this process ends in whatever way."""
    _tell(f"+{group}")


def let_go(group: int) -> None:
    """The group has ended and been waited for; its number may be somebody else's now."""
    _tell(f"-{group}")


def kill_group(group: int, signal_number: int = signal.SIGKILL) -> None:
    """Signal a process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal_number)


def _tell(line: str) -> None:
    with _lock:
        pipe = _pipe()
        pipe.write(line + "\n")
        pipe.flush()


def _pipe() -> IO[str]:
    global _reaper  # noqa: PLW0603 -- one reaper a process, started when first needed
    if _reaper is None:
        _reaper = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _REAPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        atexit.register(_close, _reaper)
    assert _reaper.stdin is not None
    return _reaper.stdin


def _close(reaper: subprocess.Popen[str]) -> None:
    assert reaper.stdin is not None
    reaper.stdin.close()
    reaper.wait()
