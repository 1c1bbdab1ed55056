"""Whether URLs that are written differently lead to the same places: names are looked up, within a time."""

import functools
import queue
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Final

from kvraft import clock, logs
from kvraft.settings import urls
from kvraft.settings.flags import Given, one_line
from kvraft.settings.founding_flags import elsewhere
from kvraft.settings.settings import Settings
from kvraft.transport.names import Address, Found, look_up

log = logs.get(__name__)

_OWN_WITHIN_S: Final = 30.0
"""etcd's time for the names of a member's own URLs, asked again and again; the last of them get a moment more."""
_AGAIN: Final = threading.Event()
"""Never set: nothing ends a pause but its time, or a signal the process."""
_AGAIN_S: Final = 1.0
_LOOK_UP_S: Final = 10.0
"""For one lookup: name servers that say nothing are given 5 s each by most systems."""


def refuse_other_places(given: Given, wanted: Settings) -> None:
    """What `--initial-advertise-peer-urls` says must be where `--initial-cluster` has this member.

    As etcd finds out (v3.4.23 etcdserver/config.go, `advertiseMatchesCluster`): a name that has no address may have one
    in a moment, as where names come up with their hosts, and `localhost` is a name that nobody looks up.

    Raises:
        SettingsError: it is somewhere else, or nobody can tell.
    """
    if not wanted.advertised:
        return
    own = wanted.initial_advertise_peer_urls
    deadline_ms = clock.monotonic_ms() + int(_OWN_WITHIN_S * 1000)
    places: dict[str, frozenset[Hashable]] = {}
    is_told = False
    while True:
        complaint = ""
        for text in (*wanted.advertised, *own):
            if not places.get(text):
                places[text], why = _strict_places(text, (deadline_ms - clock.monotonic_ms()) / 1000)
                complaint = complaint or why
        if same_places(wanted.advertised, own, places.__getitem__):
            return
        if not complaint or clock.monotonic_ms() >= deadline_ms:
            raise elsewhere(given, wanted.name, own, complaint)
        if not is_told:
            log.warning("a peer URL's name has no address yet", error=complaint)
            is_told = True
        _AGAIN.wait(_AGAIN_S)


def same_places(first: Sequence[str], second: Sequence[str], places_of: Callable[[str], frozenset[Hashable]]) -> bool:
    """Whether two lists lead to the same places, in any order. A name that cannot be looked up is nowhere.

    As etcd asks it: v3.4.23 pkg/netutil/netutil.go, `urlsEqual`.
    """
    rest = [places_of(text) for text in second]
    for text in first:
        found = next((places for places in rest if places & places_of(text)), None)
        if found is None:
            return False
        rest.remove(found)
    return not rest


@functools.cache
def addresses(text: str) -> frozenset[Address]:
    """Where a URL leads, by whatever scheme; nowhere if its name cannot be looked up."""
    url = urls.parse(text)
    found = _look_up_within(url.host, url.port, _LOOK_UP_S)
    return frozenset() if isinstance(found, OSError) else frozenset(found)


def _strict_places(text: str, within_s: float) -> tuple[frozenset[Hashable], str]:
    """Where a URL leads with its scheme, or why that is nowhere yet."""
    url = urls.parse(text)
    if url.host == "localhost":
        return frozenset({(url.is_secure, url.host, url.port)}), ""
    found = _look_up_within(url.host, url.port, max(within_s, _AGAIN_S))
    if isinstance(found, OSError):
        return frozenset(), one_line(f"{url.host}: {found.strerror or found}")
    return frozenset((url.is_secure, address) for address in found), ""


def _look_up_within(host: str, port: int, within_s: float) -> Found:
    """`look_up`, whose thread is left alone when the time is over: it holds up no end."""
    answer: queue.SimpleQueue[Found] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: answer.put(look_up(host, port)), name="name lookup", daemon=True)
    try:
        thread.start()
        return answer.get(timeout=within_s)
    except RuntimeError as error:
        return OSError(f"no thread to look it up: {error}")
    except queue.Empty:
        return OSError("no name server has answered in time")
