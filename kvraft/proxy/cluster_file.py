"""The one file that a proxy keeps: the peer URLs of the members, in etcd's form, so that each reads the other's.

`<data-dir>/proxy/cluster` holds `{"PeerURLs":["http://..."]}` (etcd v3.4.23 etcdmain/etcd.go, `startProxy`).
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Final, final

from kvraft.settings import urls

_BYTES_MAX: Final = 1 << 20


class ClusterFileError(Exception):
    """The file cannot be read as one. The text is one line with the remedy."""


@final
class ClusterFile:
    """The file of one data directory."""

    def __init__(self, data_dir: pathlib.Path) -> None:
        self.directory: Final = data_dir / "proxy"
        self.path: Final = self.directory / "cluster"

    def read(self) -> tuple[str, ...] | None:
        """The URLs; None if there is no file yet.

        Raises:
            ClusterFileError: it is no such file, names what is no URL of a member, or cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                data = file.read(_BYTES_MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ClusterFileError(
                f"{self.path}: {error.strerror}: give a directory that this user can read"
            ) from error
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        texts = value.get("PeerURLs") if isinstance(value, dict) else None
        remedy = "remove it, and name them with --initial-cluster"
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise ClusterFileError(f"{self.path}: it does not hold the members' peer URLs: {remedy}")
        try:
            return tuple(str(urls.parse(text)) for text in texts)
        except ValueError as error:
            raise ClusterFileError(
                f"{self.path}: it does not hold the members' peer URLs ({error}): {remedy}"
            ) from error

    def make_directory(self) -> None:
        """Make the place of the file, by which a directory is a proxy's from then on.

        Raises:
            OSError: it cannot be made.
        """
        for directory in (self.directory.parent, self.directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def write(self, peer_urls: Sequence[str]) -> None:
        """Keep these, durably, in place of the others.

        Raises:
            OSError: they cannot be kept.
        """
        self.make_directory()
        beside = self.path.with_name("cluster.bak")
        text = json.dumps({"PeerURLs": list(peer_urls)}, separators=(",", ":"))
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:  # noqa: PTH123 -- of a descriptor, for its mode
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
