"""All cores of the machine, for calls that need nothing of each other.

Processes are not forked: the test run has threads, whose locks a copy would keep as they are, and a large heap, of
which every page that is looked at would be copied. Nor are they ended by a signal, as those of `multiprocessing.Pool`:
it may take away the word that ends a process, and where whoever runs the tests has SIGTERM ignored, it then waits for
that process for ever.
"""

import gc
import itertools
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Final, TypeVar, TypeVarTuple

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")
_CALLS_AHEAD: Final = 2
"""A process finds its next call waiting, and an end of the calls is seen soon after it has come."""

_stays_here = False


def stay_here() -> None:
    """From now on calls are made in this process, one after another: a bug that is planted in it is in no other."""
    global _stays_here  # noqa: PLW0603 -- as the planted bug, of the whole process and for good
    _stays_here = True


def in_processes(
    function: Callable[[*_Arguments], _Result],
    calls: Iterable[tuple[*_Arguments]],
    processes: int | None = None,
) -> Generator[_Result]:
    """Yield what each call returns, in the order in which they end.

    `function`, its arguments and results are pickled. Calls are drawn as processes become free, so that there may be
    infinitely many. What a call raises is raised here; whoever closes the iterator waits for the calls under way.

    Raises:
        concurrent.futures.process.BrokenProcessPool: a process was killed.
    """
    if _stays_here:
        yield from itertools.starmap(function, calls)
        return
    count = processes or os.cpu_count() or 1
    remaining = iter(calls)
    running: set[Future[_Result]] = set()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), collect_seldom) as executor:
        try:
            while True:
                for call in itertools.islice(remaining, _CALLS_AHEAD * count - len(running)):
                    running.add(executor.submit(function, *call))
                if not running:
                    return
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    yield future.result()
        finally:
            for future in running:
                future.cancel()


def collect_seldom() -> None:
    """A run leaves hardly any garbage in cycles: looking for it as often as Python does costs a fifteenth of it."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
