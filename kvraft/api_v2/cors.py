"""What lets a browser's page use an answer: etcd's header lines (3.4 embed/serve.go, corsHandler). Pure."""

from collections.abc import Collection
from typing import final


@final
class Cors:
    """Which pages may call; by the origins that `--cors` names, `*` for all."""

    def __init__(self, origins: Collection[bytes]) -> None:
        self._origins = origins
        self.is_any = b"*" in origins

    def allows(self, origin: bytes) -> bool:
        """Whether pages of this origin may."""
        return self.is_any or origin in self._origins

    def lines(self, origin: bytes | None) -> bytes:
        """The header lines that say so; empty for pages of other origins."""
        if self.is_any:
            return _lines(b"*")
        return _lines(origin) if origin is not None and origin in self._origins else b""


def _lines(origin: bytes) -> bytes:
    return (
        b"Access-Control-Allow-Headers: accept, content-type, authorization\r\n"
        b"Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
        b"Access-Control-Allow-Origin: " + origin + b"\r\n"
    )
