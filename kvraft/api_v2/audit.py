"""Who did what, with what outcome: an entry for each request that needs a right or changes something.

An entry is written when its answer begins, or when the client has gone before; `outcome` is the status, 0 for none.
`user` was found to be who he says; who was not, or was not asked, is there as `claimed`.
There is no password in it, and of a request's parameters none: `path` is the key, or the user, role or member.
"""

from collections.abc import Callable
from typing import Final, final

from kvraft.api_v2.exchange import Exchange
from kvraft.security.logins import basic

_CLAIMED_BYTES_MAX: Final = 256
Write = Callable[[dict[str, object]], None]


@final
class Audit:
    """Writes the entries of one server."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def begin(self, exchange: Exchange, method: bytes, path: bytes) -> None:
        """This request gets an entry."""
        asker = exchange.asker()
        if asker is None:
            return

        def told(status: int) -> None:
            entry: dict[str, object] = {"address": asker.address, "user": exchange.user}
            login = basic(asker.authorization) if asker.authorization and not exchange.user else None
            if login is not None:
                entry["claimed"] = _text(login[0][:_CLAIMED_BYTES_MAX])
            if asker.common_name:
                entry["certificate"] = asker.common_name
            entry |= {"method": _text(method), "path": _text(path)}
            if exchange.change:
                entry["change"] = exchange.change
            self._write({**entry, "outcome": status})

        exchange.on_status = told


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")
