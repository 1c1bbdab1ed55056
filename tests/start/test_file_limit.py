"""Open files: the soft limit follows the hard one, and connections stay below it."""

import subprocess
import sys

from kvraft.start import file_limit

SCRIPT = """
import resource
from kvraft.start import file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000))
print(file_limit.raise_soft_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE), file_limit.raise_soft_limit())
"""


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    """In a process of its own, since a hard limit cannot be raised again."""
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1000", "1000", "1000", "1000"]


def test_connections_leave_files_for_everything_else() -> None:
    """All that are wanted if there is room, otherwise what is left, and never none."""
    assert file_limit.connections_within(16_384 + file_limit.RESERVED, 16_384) == 16_384
    assert file_limit.connections_within(1024, 16_384) == 1024 - file_limit.RESERVED
    assert file_limit.connections_within(10, 16_384) == 1
