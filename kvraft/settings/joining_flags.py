"""`--join`, `--replace` and `--force-new-cluster`: a short way into a cluster, and etcd's last way out of one."""

from dataclasses import dataclass
from typing import Final, final

from kvraft.settings import urls
from kvraft.settings.flags import Given
from kvraft.settings.founding_flags import Founded, urls_of

_OWN_PEER_URLS: Final = ("initial-advertise-peer-urls", "initial-cluster", "listen-peer-urls")


@final
@dataclass(slots=True, frozen=True)
class Joining:
    """How a member with an empty directory comes to a cluster that runs."""

    urls: tuple[str, ...] = ()
    """Client URLs of running members; none: it was not told to add itself."""
    replaces: str = ""
    """The name of the member in whose place it comes; empty: in nobody's."""


BY_NO_FLAG: Final = Joining()


def joining(given: Given, founded: Founded, *, has_data: bool) -> Joining:
    """What the flags say of it.

    Args:
        given: the flags.
        founded: who this member is by its other flags, or by its data.
        has_data: whether the member has started before: then it need not say where it is.

    Raises:
        SettingsError: they contradict each other, or do not say where the others reach this member.
    """
    replaced = given.values.get("replace")
    if "join" not in given.values:
        if replaced is not None:
            raise replaced.error("it needs --join, with client URLs of members that run")
        return BY_NO_FLAG
    if given.is_on("force-new-cluster"):
        raise given.error(
            "--force-new-cluster makes a cluster of one of what this member holds, and --join joins another: "
            "give one of them",
            "join",
        )
    wanted = tuple(map(str, urls_of(given, "join")))
    if not has_data:
        _check_own_urls(given, founded)
    return Joining(wanted, "" if replaced is None else replaced.text)


def _check_own_urls(given: Given, founded: Founded) -> None:
    if not any(flag in given.values for flag in _OWN_PEER_URLS):
        raise given.error("the others must be told where this member is: give --initial-advertise-peer-urls", "join")
    refuse_everywhere(given, founded)


def refuse_everywhere(given: Given, founded: Founded) -> None:
    """A member that others are told of must be at an address of its own.

    Raises:
        SettingsError: it is not.
    """
    for url in map(urls.parse, founded.own.peer_urls):
        if url.is_everywhere:
            raise given.error(
                f"members would be told {url}, which is each one's own host: "
                "give --initial-advertise-peer-urls an address of this host",
                *_OWN_PEER_URLS,
            )


def force_new_cluster(given: Given) -> bool:
    """Whether this member is to be a cluster of its own.

    Raises:
        SettingsError: it is to give up what it holds, too.
    """
    if not given.is_on("force-new-cluster"):
        return False
    if given.is_on("rebuild"):
        raise given.error(
            "it goes on with what this member holds, and --rebuild may give that up: leave --rebuild out",
            "force-new-cluster",
        )
    return True
