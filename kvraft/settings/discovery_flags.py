"""How a member with an empty directory finds out who founds the cluster with it, if no flag names them."""

import posixpath
import urllib.parse
from dataclasses import dataclass
from typing import Final, final

from kvraft.settings.flags import Given, Value

_BOOTSTRAP: Final = ("initial-cluster", "discovery", "discovery-srv")
"""The ways to name the members: etcd takes one of them (v3.4.23 embed/config.go, `ErrConflictBootstrapFlags`)."""
_ANY_URL: Final = "http://host:port/v2/keys/discovery/TOKEN"
_IDLE: Final = (("discovery-proxy", "discovery"), ("discovery-srv-name", "discovery-srv"))
"""Flags that say something about another one."""


@final
@dataclass(slots=True, frozen=True)
class Discovery:
    """What the flags say of it."""

    url: str = ""
    """Of a token at a discovery service, as it was given: it takes the place of the cluster's token. Empty: none."""
    proxy: str = ""
    """`http://host:port` of the HTTP proxy through which that is asked, maybe with a user; empty: none."""
    domain: str = ""
    """Whose SRV records name the members; empty: none are asked for."""
    service_name: str = ""
    """Behind the names of these records: several clusters may live in one domain."""
    falls_back: bool = True
    """One member too many serves as a proxy, rather than ending."""
    source: str = ""
    """The flag or variable that asks for it, for errors."""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody is to be asked."""
        return bool(self.url or self.domain)

    @property
    def may_fall_back(self) -> bool:
        """Whether it may come to a proxy, which needs no advertised client URLs (etcdmain/config.go, `mayBeProxy`)."""
        return bool(self.url) and self.falls_back

    def token_path(self, *below: str) -> str:
        """The path of the token, or of a key below it: cleaned as etcd's client does, a slash at its end kept."""
        path = urllib.parse.urlsplit(self.url).path
        cleaned = "/" + posixpath.normpath("/".join((path, *below))).lstrip("/")
        return cleaned + "/" if not below and path.endswith("/") else cleaned


NO_DISCOVERY: Final = Discovery()


def discovery(given: Given, *, has_data: bool) -> Discovery:
    """What the flags say.

    Args:
        given: the flags.
        has_data: whether the member has started before: then nobody is asked, and what else is given does not matter.

    Raises:
        SettingsError: they contradict each other or others, or one has no value of its kind.
    """
    values = given.values
    named = [flag for flag in _BOOTSTRAP if flag in values]
    if len(named) > 1:
        raise values[named[1]].error(
            "multiple discovery or bootstrap flags are set: "
            'choose one of "initial-cluster", "discovery" or "discovery-srv", and leave the others out'
        )
    found = Discovery(
        url=_url(values["discovery"]) if "discovery" in values else "",
        proxy=_proxy(values["discovery-proxy"]) if "discovery-proxy" in values else "",
        domain=_name(values["discovery-srv"]) if "discovery-srv" in values else "",
        service_name=_name(values["discovery-srv-name"]) if "discovery-srv-name" in values else "",
        falls_back=_falls_back(given),
        source=values[named[0]].shown if named else "",
    )
    if found.is_wanted and not has_data:
        _refuse_newcomer(given, found)
    return found


def idle_flags(given: Given, *, has_data: bool) -> tuple[str, ...]:
    """A line for each flag that says nothing, as another one about discovery was not given, or was."""
    lines = [
        f"{given.values[flag].shown} changes nothing without --{other}"
        for flag, other in _IDLE
        if flag in given.values and other not in given.values
    ]
    token = given.values.get("initial-cluster-token")
    if token is not None and "discovery" in given.values and not has_data:
        lines.append(f"{token.shown} changes nothing: the URL of --discovery takes its place")
    return tuple(lines)


def _refuse_newcomer(given: Given, found: Discovery) -> None:
    """Who comes to a cluster that runs is told by its members who they are."""
    state = given.values.get("initial-cluster-state")
    if found.url and state is not None and state.text == "existing":
        raise given.error(
            "discovery URL should not be set when joining existing initial cluster: name its members with "
            "--initial-cluster, or leave --initial-cluster-state out",
            "discovery",
        )
    if "join" in given.values:
        raise given.values["join"].error(
            f"it adds a member to a cluster that runs, and --{'discovery' if found.url else 'discovery-srv'} founds "
            "one: give one of them"
        )


def _url(value: Value) -> str:
    """As it was given, if it can be one of a token."""
    text = value.text.strip()
    parts = _split(value, text, f"write it as {_ANY_URL}")
    if parts.scheme not in {"http", "https"}:
        raise value.error(f"discovery: invalid URL: its scheme must be http or https: write it as {_ANY_URL}")
    if parts.username is not None:
        raise value.error("discovery: invalid URL: it must not contain a user, as it goes into ids and logs: leave it")
    if not parts.hostname:
        raise value.error(f"discovery: invalid URL: it has no host: write it as {_ANY_URL}")
    if not parts.path.strip("/"):
        raise value.error(f"discovery: invalid URL: it has no token: write it as {_ANY_URL}")
    return text


def _proxy(value: Value) -> str:
    """With a scheme, which etcd puts before one that has none (`newProxyFunc`)."""
    text = value.text.strip()
    text = text if text.startswith("http") and "://" in text else f"http://{text}"
    parts = _split(value, text, "write it as http://host:port")
    if parts.scheme != "http" or not parts.hostname:
        raise value.error("invalid proxy address: write it as http://host:port")
    return text


def _split(value: Value, text: str, remedy: str) -> urllib.parse.SplitResult:
    if not text.isascii() or not text.isprintable() or " " in text:
        raise value.error(f"it has blanks, control characters or letters beyond ASCII: {remedy}")
    try:
        parts = urllib.parse.urlsplit(text)
        has_port = parts.port != 0
    except ValueError as error:
        raise value.error(f"{error}: {remedy}") from None
    if not has_port:
        raise value.error(f"there is no port 0: {remedy}")
    return parts


def _name(value: Value) -> str:
    text = value.text.strip().removesuffix(".")
    if not text.isascii() or not text.isprintable() or not all(text.split(".")) or " " in text:
        raise value.error("it is no domain name: write it as example.com, international names in their xn-- form")
    return text


def _falls_back(given: Given) -> bool:
    value = given.values.get("discovery-fallback")
    if value is not None and value.text not in {"exit", "proxy"}:
        raise value.error("invalid value: use exit or proxy")
    return value is None or value.text == "proxy"
