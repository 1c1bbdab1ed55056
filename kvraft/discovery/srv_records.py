"""The members that SRV records name, and which of them this one is.

As etcd finds them (v3.4.23 pkg/srv/srv.go and embed/config.go, `GetDNSClusterNames`), where all members see the same.
What would make them see different clusters is refused here: a query that fails, a target that has no address.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlsplit

from kvraft import logs
from kvraft.discovery.interfaces import Addresses, DiscoveryError, Records, Target
from kvraft.settings.discovery_flags import Discovery

log = logs.get(__name__)

_SERVICES: Final = (("https", "etcd-server-ssl"), ("http", "etcd-server"))


@final
@dataclass(slots=True, frozen=True)
class _Found:
    """One target."""

    url: str
    own_urls: frozenset[str]
    """This member's URLs that lead there; none if it is another's."""

    @property
    def is_own(self) -> bool:
        """Whether it is this member's."""
        return bool(self.own_urls)


def cluster_of(wanted: Discovery, name: str, own_urls: Sequence[str], records: Records, addresses: Addresses) -> str:
    """All members, as `--initial-cluster` names them: this one by its name, others by numbers until they tell theirs.

    Args:
        wanted: where to look.
        name: this member's.
        own_urls: its advertised peer URLs: it is where one of them leads to.
        records: who knows the records.
        addresses: who knows addresses.

    Raises:
        DiscoveryError: there are no records, this member is not among them, or one leads nowhere.
    """
    found = _targets(wanted, own_urls, records, addresses)
    own = [target.url for target in found if target.is_own]
    missing = set(own_urls).difference(*(target.own_urls for target in found))
    if own and missing:
        raise DiscoveryError(
            f"{', '.join(sorted(missing))} is a peer URL of this member, and no SRV record leads there: give "
            f"--initial-advertise-peer-urls={own[0]}"
        )
    if not own:
        others = ", ".join(target.url for target in found)
        raise DiscoveryError(
            f'cannot find local etcd member "{name}" in SRV records: they lead to {others}, and this member is at '
            f"{','.join(own_urls)}: give --initial-advertise-peer-urls one of them, or add a record"
        )
    if len(own) > 1:
        raise DiscoveryError(
            f"SRV records lead to this member as {' and '.join(own)}, and others would take these for two members: "
            "leave one record of them"
        )
    numbers = (str(number) for number in range(len(found) + 1))
    free = (number for number in numbers if number != name)
    return ",".join(f"{name if target.is_own else next(free)}={target.url}" for target in found)


def urls_of(wanted: Discovery, records: Records, addresses: Addresses) -> tuple[str, ...]:
    """Where the records lead, for whoever is not among them.

    Raises:
        DiscoveryError: there are none, or one leads nowhere.
    """
    return tuple(target.url for target in _targets(wanted, (), records, addresses))


def _targets(wanted: Discovery, own_urls: Sequence[str], records: Records, addresses: Addresses) -> list[_Found]:
    """Sorted by URL, each once: name servers turn the order about."""
    own = {url: _addresses(url, addresses) for url in own_urls}
    found: dict[str, _Found] = {}
    asked = []
    for scheme, service in _SERVICES:
        suffix = f"-{wanted.service_name}" if wanted.service_name else ""
        record = f"_{service}{suffix}._tcp.{wanted.domain}"
        asked.append(record)
        for target in records.targets(record):
            url = f"{scheme}://{target.host}:{target.port}"
            there = _known_addresses(record, target, addresses)
            matching = [own_url for own_url, here in own.items() if here & there]
            log.info("got bootstrap from DNS for etcd-server", url=url)
            if matching and not any(urlsplit(own_url).scheme == scheme for own_url in matching):
                raise DiscoveryError(
                    f"bootstrap at {url} from DNS for {record} has scheme mismatch with expected peer {matching[0]}: "
                    "make the two the same"
                )
            found[url] = _Found(url, frozenset(matching))
    if not found:
        raise DiscoveryError(
            f"no SRV records are at {' and '.join(asked)}: add one for each member, or name them with --initial-cluster"
        )
    return [found[url] for url in sorted(found)]


def _addresses(url: str, addresses: Addresses) -> frozenset[tuple[str, int]]:
    parts = urlsplit(url)
    found = addresses(parts.hostname or "", parts.port or 0)
    if not found:
        raise DiscoveryError(
            f"{url} has no address, so it cannot be found among the targets of SRV records: correct "
            "--initial-advertise-peer-urls, or the name server"
        )
    return found


def _known_addresses(record: str, target: Target, addresses: Addresses) -> frozenset[tuple[str, int]]:
    found = addresses(target.host, target.port)
    if not found:
        raise DiscoveryError(
            f"{target.host}, a target of {record}, has no address: members that know it would found another cluster "
            "than this one: add its address, or take the record away"
        )
    return found
