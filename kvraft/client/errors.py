"""What can go wrong for a client. Each class carries what a caller needs to go on; its text is one line."""

from collections.abc import Sequence
from typing import Final

KEY_NOT_FOUND: Final = 100
COMPARE_FAILED: Final = 101
NODE_EXISTS: Final = 105
EVENT_INDEX_CLEARED: Final = 401
"""Of etcd's codes, those that a caller acts on (etcd v2.3.8: error/error.go)."""


class ClientError(Exception):
    """Whatever this package raises for what comes from outside."""


class Unreachable(ClientError):
    """No endpoint could be asked. Nothing was done."""

    def __init__(self, endpoints: Sequence[str], reasons: Sequence[str]) -> None:
        super().__init__(
            "; ".join(f"{endpoint}: {reason}" for endpoint, reason in zip(endpoints, reasons, strict=True))
        )
        self.endpoints: Final = tuple(endpoints)
        """In the order in which they were tried."""
        self.reasons: Final = tuple(reasons)
        """Why each of them did not do."""


class UnknownOutcome(ClientError):
    """A write left and no answer came: it may have been done, may still be done, or not."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}: it is not known whether the write was done")
        self.endpoint: Final = endpoint
        self.reason: Final = reason


class BrokenOff(ClientError):
    """An answer had begun and did not come to its end."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint: Final = endpoint
        self.reason: Final = reason


class BadAnswer(ClientError):
    """Something answered that does not speak the etcd v2 API, or not as etcd does."""

    def __init__(self, endpoint: str, reason: str) -> None:
        super().__init__(f"{endpoint}: {reason}")
        self.endpoint: Final = endpoint
        self.reason: Final = reason


class EtcdError(ClientError):
    """The server refuses."""

    def __init__(self, status: int, code: int, message: str, cause: str, index: int, endpoint: str = "") -> None:
        text = f"{code}: {message}" if code else message
        super().__init__(f"{text} ({cause}) [{index}]" if code else text)
        self.status: Final = status
        """Of HTTP."""
        self.code: Final = code
        """etcd's `errorCode`; 0 for the endpoints that have none: members, auth, stats."""
        self.message: Final = message
        self.cause: Final = cause
        """What the message is about, as a key. Empty where etcd says nothing."""
        self.index: Final = index
        """The etcd_index at which it was refused; 0 if that was not told."""
        self.endpoint: Final = endpoint
        """Who refuses. Empty where that is not known."""


class EventIndexCleared(EtcdError):
    """A watch wants events that the history does not hold any more: read the tree again, then watch from `index`."""
