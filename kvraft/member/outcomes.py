"""How a request ends that has no answer of the keyspace, with etcd's words, and how whoever waits for it is told."""

from collections.abc import Callable
from typing import Final, TypeVar

from kvraft import logs
from kvraft.keyspace.errors import ErrorCode, EtcdError

TIMED_OUT: Final = b"etcdserver: request timed out"
TIMED_OUT_LEADER_LOST: Final = b"etcdserver: request timed out, possibly due to previous leader failure"
TIMED_OUT_CONNECTION_LOST: Final = b"etcdserver: request timed out, possibly due to connection lost"
OLDER_MEMBERS: Final = b"etcdserver: not all members run this version"
TOO_MANY_REQUESTS: Final = b"etcdserver: too many requests"
STOPPED: Final = b"etcdserver: server stopped"
NO_SPACE: Final = b"etcdserver: no space"

T = TypeVar("T")

log = logs.get(__name__)


def internal_error(cause: bytes) -> EtcdError:
    """The 500/300 answer with one of etcd's causes."""
    return EtcdError(ErrorCode.RAFT_INTERNAL, cause, 0)


def tell(done: Callable[[T], None], outcome: T) -> None:
    """Tell one request its end. What goes wrong in that is a bug of that request and stops nothing else.

    Every request is told here: the outcome stands whether or not it can be answered, and whoever tells it has others
    to tell, or a log to apply.
    """
    try:
        done(outcome)
    except Exception:
        log.exception("answering a request failed", outcome=type(outcome).__name__)
