"""Flags by which an operator is stricter than etcd."""

import pytest

from kvraft.settings import settings
from kvraft.settings.access_flags import Access
from kvraft.settings.flags import SettingsError, read

NETWORK = ("--listen-client-urls=http://192.0.2.1:5", "--advertise-client-urls=http://192.0.2.1:5")


def access(*arguments: str) -> Access:
    """What is asked of clients."""
    return settings.from_flags(read(arguments, {})).access


def test_nothing_is_asked_that_etcd_does_not_ask() -> None:
    """Each of them is off, also for who says so."""
    assert access() == Access()
    assert access("--auth-guest=role", "--auth-failures-max=0", "--audit-log=", "--insecure", *NETWORK) == Access()


def test_each_of_them_can_be_asked_for() -> None:
    """On loopback nothing is open that TLS would close."""
    asked = access("--auth-guest=none", "--auth-failures-max=5", "--audit-log=stderr", "--insecure=false")
    assert asked == Access(denies_guests=True, failures_max=5, audit_log="stderr", is_strict=True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--auth-guest=all",), "--auth-guest=all: invalid value: use role or none"),
        (("--auth-failures-max=-1",), "--auth-failures-max=-1: use a whole number from 0 to 1000000"),
        (
            ("--insecure=false", *NETWORK),
            "--insecure=false: http://192.0.2.1:5: reached over a network, and without TLS: use https or loopback",
        ),
        (
            ("--insecure=false", "--listen-metrics-urls=http://0.0.0.0:7"),
            "--insecure=false: http://0.0.0.0:7: reached over a network, and without TLS: use https or loopback",
        ),
        (
            ("--insecure=false", "--listen-peer-urls=http://192.0.2.1:6"),
            "--insecure=false: http://192.0.2.1:6: reached over a network, and without TLS: use https or loopback",
        ),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], line: str) -> None:
    """With what to do."""
    with pytest.raises(SettingsError) as caught:
        access(*arguments)
    assert str(caught.value) == line


def test_what_is_open_is_known() -> None:
    """For the line in the log."""
    assert settings.from_flags(read(NETWORK, {})).open_urls == ("http://192.0.2.1:5",)
    assert settings.from_flags(read((), {})).open_urls == ()
