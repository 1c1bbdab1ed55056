"""What systemd is told of a unit with `Type=notify`, as Debian's unit for etcd has it: sd_notify(3).

etcd says `READY=1` too (3.4.23, seen on its socket). One datagram; the libraries for it are bindings to libsystemd, or
no longer kept.
"""

import os
import socket
from typing import Final

from kvraft import logs

_VARIABLE: Final = "NOTIFY_SOCKET"
_log = logs.get(__name__)


def tell(state: str) -> None:
    """Send a state (`READY=1`), if somebody listens. That nobody can be told is logged and changes nothing."""
    address = os.environ.get(_VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace of Linux
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.setblocking(False)  # a manager that reads nothing must not hold up the loop
            manager.connect(address)
            manager.sendall(state.encode())
    except OSError as error:
        _log.warning("the service manager cannot be told", state=state, error=error)
