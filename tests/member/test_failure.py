"""What the last line of a member says."""

import pytest

from kvraft.member.failure import Failure
from kvraft.storage.errors import CorruptStorageError, StorageFailedError


@pytest.mark.parametrize(
    ("error", "line", "rebuild_helps"),
    [
        (StorageFailedError("the disk is gone"), "the disk is gone", False),
        (CorruptStorageError("record 7 is damaged"), "record 7 is damaged", True),
        (KeyError("surprise"), "internal error: KeyError('surprise')", False),
    ],
)
async def test_sentences_of_storage_are_told_as_they_are(error: Exception, line: str, *, rebuild_helps: bool) -> None:
    """Anything else is a defect, and called one."""
    failure = Failure("n1")
    failure.tell_of(error)
    assert (failure.reason.result(), failure.rebuild_helps) == (line, rebuild_helps)
