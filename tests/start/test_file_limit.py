"""Open files: the soft limit follows the hard one, and connections stay below it."""

import subprocess
import sys

import pytest

from kvraft.settings import flags, settings
from kvraft.start import composition, file_limit, start

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


def test_few_open_files_mean_fewer_connections_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than accepts that fail, of which no client would hear."""
    wanted = settings.from_flags(flags.read((), {}))
    for files_max, connections in ((20_000, 16_384), (1024, 768)):
        monkeypatch.setattr(file_limit, "raise_soft_limit", lambda: files_max)  # noqa: B023 -- called in this turn
        api = composition.api_settings(start.within_open_files(wanted))
        assert api.connections_max == connections
        assert ("few files may be open" in caplog.text) == (files_max == 1024)
