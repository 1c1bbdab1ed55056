"""How long the machine itself holds a process up that has nothing to do: what a stall of a member is judged beside.

As a program, it answers each line on its standard input with the longest delay in seconds since the line before.
"""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final

from kvraft import clock

TICK_S: Final = 0.01
_STDIN: Final = 0


def answer() -> None:
    """Until the input ends."""
    longest_s, before = 0.0, clock.monotonic_ns()
    while True:
        asked, _, _ = select.select([_STDIN], [], [], TICK_S)
        now = clock.monotonic_ns()
        longest_s = max(longest_s, (now - before) / 1e9 - TICK_S)
        before = now
        if asked:
            if not os.read(_STDIN, 1):
                return
            print(longest_s, flush=True)
            longest_s, before = 0.0, clock.monotonic_ns()


@contextlib.contextmanager
def ticking() -> Iterator[Callable[[], float]]:
    """Gives what tells the longest delay since it was last asked, in seconds."""
    command = [sys.executable, "-m", "tests.cluster.ticker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def longest_s() -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        longest_s()
        try:
            yield longest_s
        finally:
            process.kill()


if __name__ == "__main__":
    answer()
