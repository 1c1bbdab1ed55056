"""Who gets in, where an operator is stricter than etcd: each of these is off, as in etcd, unless it is asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from kvraft.settings.flags import Given, Value
from kvraft.settings.urls import Url

FAILURES_MAX: Final = 1_000_000
"""Of a minute: more than can be compared."""


@final
@dataclass(slots=True, frozen=True)
class Access:
    """What is asked of clients."""

    denies_guests: bool = False
    """While auth is on, nobody gets in without a user."""
    failures_max: int = 0
    """Wrong passwords of a user, or from an address, in a minute; 0: any number."""
    audit_log: str = ""
    """Path of a file, or `stderr`; empty: none."""
    is_strict: bool = False
    """`--insecure=false`: nothing is served beyond this host without TLS."""


def access(given: Given, failures_max: int, listen: Iterable[Url]) -> Access:
    """What the flags say.

    Args:
        given: the flags.
        failures_max: `--auth-failures-max`, read.
        listen: every URL that is listened at.

    Raises:
        SettingsError: a value is none of its kind, or `--insecure=false` forbids a URL.
    """
    guest = given.values.get("auth-guest", Value("role", ""))
    if guest.text not in {"role", "none"}:
        raise guest.error("invalid value: use role or none")
    audit_log = given.values.get("audit-log", Value("", ""))
    is_strict = not given.is_on("insecure", default=True)
    if is_strict:
        refused = ", ".join(sorted({str(url) for url in listen if is_open(url)}))
        if refused:
            raise given.error(f"{refused}: reached over a network, and without TLS: use https or loopback", "insecure")
    return Access(guest.text == "none", failures_max, audit_log.text, is_strict)


def is_open(url: Url) -> bool:
    """Whether somebody on the way to it can read and change what is said there."""
    return not (url.is_loopback or url.is_secure)
