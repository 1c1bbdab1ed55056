"""Whether a certificate is that of the address from which it comes: a stolen one is of no use elsewhere.

By etcd's rules (v3.4.23 pkg/transport/listener_tls.go, `checkCertSAN`).
"""

import contextlib
import socket
from typing import Final

from kvraft.background import in_a_thread
from kvraft.security.certificates import Certificate, any_matches

Answers = tuple[list[str], list[str]]
"""The names of an address, and the addresses of the names of a certificate."""

_THREAD: Final = "name lookup"


async def why_foreign(certificate: Certificate, address: str) -> str:
    """Why it is not the address's; empty if it is, or if it names nobody. Asks the name server only if it must.

    Where the system has no thread left to wait on, that is why; whoever comes may come again.
    """
    if not certificate.has_names or certificate.covers(address):
        return ""
    if not certificate.dns_names:
        return f"its certificate is for {certificate.names}, not for {address}"
    try:
        found = await in_a_thread(_THREAD, lambda: _look_up(address, certificate.dns_names))
    except RuntimeError as error:
        return f"its certificate is for {certificate.names}, and nobody can be asked whether {address} is one: {error}"
    return why_not_among(certificate, address, found)


def why_not_among(certificate: Certificate, address: str, found: Answers) -> str:
    """The verdict on what the name server said. Pure."""
    names_of_address, addresses_of_names = found
    if address in addresses_of_names:
        return ""
    if any(any_matches(certificate.dns_names, name) for name in names_of_address):
        return ""
    return f"its certificate is for {certificate.names}, and none of these is {address}"


def _look_up(address: str, dns_names: tuple[str, ...]) -> Answers:
    """Blocks."""
    names: list[str] = []
    addresses: list[str] = []
    with contextlib.suppress(OSError, UnicodeError):
        name, _ = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)
        names.append(name)
    for name in dns_names:
        if not name.startswith("*"):
            with contextlib.suppress(OSError, ValueError):  # no name at all, as one with a NUL in it
                addresses += [str(each[4][0]) for each in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]
    return names, addresses
