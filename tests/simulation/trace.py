"""What happened, twice: a hash that is equal for equal runs, and lines that a person reads."""

import hashlib
import struct
from collections.abc import Callable
from typing import Final, final

_RECORD: Final = struct.Struct("<QHHQQ")


@final
class Trace:
    """Hashes every step of a run; keeps readable lines only when somebody will read them."""

    def __init__(self, sink: Callable[[str], None] | None = None) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._sink = sink
        self.keeps_lines = sink is not None
        """Lines are costly to build: callers ask before they do."""

    def note(self, now_us: int, server: int, code: int, first: int = 0, second: int = 0) -> None:
        """Add one step to the hash. `code` names what happened, the numbers, none negative, say to what."""
        self._digest.update(_RECORD.pack(now_us, server, code, first, second))

    def line(self, now_us: int, server: int, term: int, what: str) -> None:
        """Write `[ms] server@term what`; server 0 is the world outside."""
        if self._sink is not None:
            who = f"{server}@{term}" if server else "world"
            self._sink(f"[{now_us / 1000:11.3f}] {who:>6} {what}")

    def hexdigest(self) -> str:
        """The hash of everything noted so far."""
        return self._digest.hexdigest()
