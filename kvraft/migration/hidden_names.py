"""What is hidden in a running kvraft: no listing shows it, and a backup has it."""

from typing import Final

from kvraft.client import BadAnswer, Client, EtcdError
from kvraft.client.connection import Stream
from kvraft.client.values import refusal
from kvraft.keyspace.records import RecordError, decode_key, decode_node
from kvraft.keyspace.tree import ROOT_ID
from kvraft.migration.writing import Patience
from kvraft.storage import codec
from kvraft.storage.backup_file import BackupDecoder
from kvraft.storage.errors import StorageError
from kvraft.storage.spool import NODE

TARGET: Final = "/v2/kvraft/backup"
COPY_WITHIN_S: Final = 3600.0
"""For the first byte: a large state is copied in minutes."""
_DEPTH_MAX: Final = 1 << 20


async def hidden_if_told(client: Client, patience: Patience) -> tuple[tuple[bytes, ...], str]:
    """As `hidden_in`, and why it is not known; empty where it is.

    Raises:
        ClientError: it cannot be asked.
    """
    try:
        return await patience.until_done(lambda: hidden_in(client)), ""
    except EtcdError as error:
        return (), f"hidden keys that are not named (--hidden) are not known: {error}"


async def hidden_in(client: Client) -> tuple[bytes, ...]:
    """Every node whose own name is hidden, parents first; nothing where the source is no kvraft.

    It is as of a moment after the call: the member that is asked has caught up before.

    Raises:
        EtcdError: it takes another user, or the member makes no copy now.
        ClientError: it cannot be asked, what it sends breaks off, or is no backup.
    """
    (await client.request("GET", "/v2/keys/", query={"quorum": True})).checked()
    async with client.stream("GET", TARGET, timeout_s=COPY_WITHIN_S) as stream:
        if stream.status == 404:
            return ()
        if stream.status >= 300:
            raise refusal(stream.status, await stream.read(), stream.etcd_index)
        try:
            return await _names(stream)
        except (StorageError, RecordError, ValueError) as error:
            raise BadAnswer(stream.endpoint, f"sent no backup: {error}") from error


async def _names(stream: Stream) -> tuple[bytes, ...]:
    """Directories are kept until the end: one may come after what is in it."""
    decoder = BackupDecoder("what came", int(stream.headers.get("X-Kvraft-Backup-Size", "")))
    directories: dict[int, tuple[int, bytes]] = {}
    hidden: list[tuple[int, bytes]] = []
    async for chunk in stream.chunks():
        for table, key, stored in decoder.feed(chunk):
            if table != NODE:
                continue
            node = decode_node(codec.unseal(key, stored, "what came"))
            if node.directory:
                directories[decode_key(key)] = (node.parent_id, node.name)
            if node.name.startswith(b"_"):
                hidden.append((node.parent_id, node.name))
    decoder.finish()
    return tuple(sorted(_path(directories, *each) for each in hidden))


def _path(directories: dict[int, tuple[int, bytes]], parent_id: int, name: bytes) -> bytes:
    names = [name]
    while parent_id != ROOT_ID:
        if parent_id not in directories or len(names) > _DEPTH_MAX:
            raise ValueError("a node without its directory")
        parent_id, name = directories[parent_id]
        names.append(name)
    return b"/" + b"/".join(reversed(names))
