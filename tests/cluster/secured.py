"""Three members whose peers speak TLS, and writers at each of them."""

import contextlib
import http.client
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, final

from kvraft.testing.certificates import Authority, Pair
from kvraft.testing.cluster import Cluster, Member, Program

FORM: Final = {"value": "v"}


@final
class Secured:
    """Three members with https peer URLs, each with a certificate of its own."""

    def __init__(self, directory: Path, **flags: str) -> None:
        self.ca: Final = Authority(directory / "ca")
        self.crl_file: Final = self.ca.revoke()
        self.pairs: Final = {name: self.ca.issue(name, common_name="member") for name in ("n1", "n2", "n3")}
        common = {"peer-trusted-ca-file": self.ca.ca_file, "peer-client-cert-auth": "true", **flags}
        self.cluster: Final = Cluster(directory / "cluster", program=Program(flags=common, peer_scheme="https"))
        for member in self.cluster.members:
            self.give(member, self.pairs[member.name])

    def give(self, member: Member, pair: Pair) -> None:
        """Start it with this certificate from now on."""
        member.cluster_flags |= {"peer-cert-file": pair.cert_file, "peer-key-file": pair.key_file}


@contextlib.contextmanager
def secured(directory: Path, **flags: str) -> Iterator[Secured]:
    """A cluster that is ready."""
    made = Secured(directory, **{name.replace("_", "-"): value for name, value in flags.items()})
    with made.cluster:
        yield made


def put(member: Member, key: str = "k") -> None:
    """One write there."""
    answer = member.http("PUT", f"/v2/keys/{key}", form=FORM)
    assert answer.status in {200, 201}, answer.body


@final
class Writing:
    """A thread for each member that writes there, one after another, until told to stop."""

    def __init__(self, cluster: Cluster) -> None:
        self.failures: list[str] = []
        self.count = 0
        self._cluster = cluster
        self._stops = {member: threading.Event() for member in cluster.members}
        self._threads = {member: threading.Thread(target=self._run, args=(member,)) for member in cluster.members}

    def __enter__(self) -> Self:
        for thread in self._threads.values():
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        for member in self._threads:
            self.leave(member)

    def leave(self, member: Member) -> None:
        """Write there no more."""
        self._stops[member].set()
        self._threads[member].join()

    def come_back(self, member: Member) -> None:
        """Write there again."""
        self._stops[member] = threading.Event()
        self._threads[member] = threading.Thread(target=self._run, args=(member,))
        self._threads[member].start()

    def wait_for(self, count: int) -> None:
        """Until so many more writes are done."""
        wanted = self.count + count
        self._cluster.wait_for("writes", lambda: self.failures or self.count >= wanted, 60)

    def _run(self, member: Member) -> None:
        stop = self._stops[member]
        while not stop.is_set():
            try:
                put(member, f"w-{member.name}")
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(f"{member.name}: {error!r}")
            self.count += 1
