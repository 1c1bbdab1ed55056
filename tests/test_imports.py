"""What a start imports, which is most of what it takes."""

import subprocess
import sys
from typing import Final

_NOT_FOR_A_START: Final = {"aiohttp", "multiprocessing", "sqlite3", "unittest", "xml", "yaml"}
"""Libraries that a start can do without: what needs them imports them when it is first needed."""


def test_start_imports_nothing_that_it_does_not_need() -> None:
    """`kvraft.cli` and all that it imports."""
    program = "import sys, kvraft.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    imported = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "kvraft" in imported.split()
    assert not _NOT_FOR_A_START & set(imported.split())
