"""First on the path of a member (`bench/threads.py`): the system knows its threads by Python's names for them."""

import pathlib
import threading

usual = threading.Thread.run


def run(self: threading.Thread) -> None:
    """As ever, under its name, of which the system keeps 15 bytes."""
    pathlib.Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(self.name[:15])
    usual(self)


threading.Thread.run = run  # type: ignore[method-assign]  # whatever a thread of the member runs
