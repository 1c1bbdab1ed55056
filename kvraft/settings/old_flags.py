"""The addresses of etcd 0.4, made URLs as etcd 2.3 makes them (v2.3.8 etcdmain/config.go, pkg/flags/urls.go)."""

from collections.abc import Mapping
from typing import Final

from kvraft.settings import urls
from kvraft.settings.flag_table import OLD_ADDRESSES
from kvraft.settings.flags import Given, Value

_BOUND_FROM: Final = {"bind-addr": "addr", "peer-bind-addr": "peer-addr"}
"""Without the first, the port of the second is listened at on every address of the host."""
_ADVERTISED: Final = "advertise-client-urls"


def as_urls(given: Given) -> Given:
    """The settings with URLs in the place of addresses, and a line for each that was one.

    Raises:
        SettingsError: an address is none, or stands beside the URLs that it would be.
    """
    if not OLD_ADDRESSES.keys() & given.values.keys():
        return given
    values, notices = dict(given.values), list(given.notices)
    for old, name in OLD_ADDRESSES.items():
        address = values.pop(old, None)
        origin = given.values.get(_BOUND_FROM.get(old, ""))
        source = address if address is not None else origin
        if source is None:
            continue
        host, port = _parsed(source)
        if name in given.values:
            raise source.error(f"set only one of --{name} and --{_flag_of(source, given)}")
        url = f"{_scheme(name, given.values)}://{host if address is not None else '[::]'}:{port}"
        values[name] = Value(url, source.source)
        notices.append(f"{source.shown}: it was etcd 0.4's, and is taken as --{name}={url}")
        if old == "bind-addr" and not {_ADVERTISED, "addr"} & given.values.keys():
            values[_ADVERTISED] = Value(f"{_scheme(name, given.values)}://localhost:{port}", source.source)
    return Given(values, tuple(notices), given.empty)


def _flag_of(value: Value, given: Given) -> str:
    return next(name for name, other in given.values.items() if other is value)


def _parsed(value: Value) -> tuple[str, int]:
    """The address, as a URL has it, and the port."""
    host, colon, port = value.text.strip().rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or not 0 < int(port) < 1 << 16:
        raise value.error("it has no port: write address:port, or better the URL that --help names")
    if not urls.is_ip(bare) or (":" in bare) != (bare != host):
        raise value.error("bad IP in address specification: write an IP address and a port, IPv6 in brackets")
    return host, int(port)


def _scheme(name: str, values: Mapping[str, Value]) -> str:
    prefix = "peer-" if "peer" in name else ""
    return "https" if {f"{prefix}cert-file", f"{prefix}key-file"} & values.keys() else "http"
