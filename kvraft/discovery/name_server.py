"""SRV records from the name servers of /etc/resolv.conf, by dnspython. Imported only where they are asked for."""

from typing import Final, final

import dns.exception
import dns.resolver
from dns.rdtypes.IN.SRV import SRV

from kvraft.discovery.interfaces import DiscoveryError, Target

_ANSWER_S: Final = 10.0
"""Of all name servers together: what resolv.conf(5) gives one, with its second attempt."""


@final
class NameServers:
    """Those of this host."""

    def targets(self, name: str) -> tuple[Target, ...]:
        """Of the SRV records of a name, looked for in the search domains too, as Go's resolver does."""
        try:
            answer = dns.resolver.Resolver().resolve(name, "SRV", lifetime=_ANSWER_S, search=True)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return ()
        except dns.exception.DNSException as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise DiscoveryError(
                f"error querying DNS SRV records for {name}: {text}: correct the name, or the name servers of "
                "/etc/resolv.conf"
            ) from error
        return tuple(_target(record) for record in answer if isinstance(record, SRV))


def _target(record: SRV) -> Target:
    return Target(record.target.to_text(omit_final_dot=True), record.port)
