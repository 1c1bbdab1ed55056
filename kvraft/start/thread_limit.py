"""The threads of the event loop's own executor, all of them before anybody is served.

Files are read on them, and what takes long is done. An executor starts its threads as they are wanted, and where the
system has none left by then (`TasksMax` of the unit, `ulimit -u`, `pid_max`), a client's request would be a defect.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kvraft.settings.flags import SettingsError

THREADS: Final = 6
"""What comes when all are busy waits."""


def start_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Give the loop an executor whose threads live.

    Raises:
        SettingsError: the system has none for this process.
    """
    pool = ThreadPoolExecutor(THREADS, "beside the loop")
    together = threading.Barrier(THREADS + 1)
    try:
        for _ in range(THREADS):
            pool.submit(together.wait)  # nobody is idle before all are there, so that each needs a thread of its own
        together.wait()
    except RuntimeError as error:
        together.abort()
        pool.shutdown(wait=False, cancel_futures=True)
        raise SettingsError(
            f"{error}: this process may have too few threads: raise TasksMax of its unit, or `ulimit -u`"
        ) from error
    loop.set_default_executor(pool)
