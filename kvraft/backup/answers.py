"""What a member answers to whoever asks it for a copy."""

import re
from typing import Final

from kvraft.backup.part import COPY_ID
from kvraft.client import BadAnswer
from kvraft.client.connection import Stream
from kvraft.client.values import refusal
from kvraft.storage.errors import BackupError

TARGET: Final = "/v2/kvraft/backup"
_SIZE: Final = re.compile(r"[0-9]{1,18}")


class BusyError(Exception):
    """A member makes no copy now."""


def named(stream: Stream) -> tuple[str, int]:
    """Name and length of the copy that is sent."""
    copy_id, size = stream.headers.get("X-Kvraft-Backup", ""), stream.headers.get("X-Kvraft-Backup-Size", "")
    if COPY_ID.fullmatch(copy_id) is None or _SIZE.fullmatch(size) is None:
        raise BadAnswer(stream.endpoint, "answers, and not with a backup: is kvraft there?")
    return copy_id, int(size)


async def refuse(stream: Stream) -> None:
    """Raise for whatever is no copy."""
    if stream.status in {200, 206}:
        return
    if stream.status == 404:
        raise BackupError(f"{stream.endpoint} has no {TARGET}: it is etcd, or an older kvraft")
    refused = refusal(stream.status, await stream.read(), stream.etcd_index)
    if stream.status in {503, 507}:
        raise BusyError(f"{stream.endpoint}: {refused.message}")
    raise refused
