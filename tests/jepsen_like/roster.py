"""A cluster whose members change: who runs, who leads, and the requests that change who belongs to it.

Requests are repeated until their end is seen in the list of members, as an operator repeats what timed out.
"""

import contextlib
import http.client
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar, final

from kvraft.testing.cluster import ClusterError, Member
from kvraft.testing.member import pause_or_exit
from kvraft.testing.raw_http import Answer

JSON: Final = (("Content-Type", "application/json"),)
WITHIN_S: Final = 60.0
"""For a change, on a busy machine and with a kill in its middle."""
_ASK_TIMEOUT_S: Final = 10.0

T = TypeVar("T")


@final
class Roster:
    """Members that may run, of which some do; names are the order in which they come."""

    def __init__(self, members: Sequence[Member], joined: Sequence[Member] = ()) -> None:
        self.places: Final = tuple(members)
        self.joined = list(joined)
        """Those that belong to the cluster, in the order of their coming, running or not."""

    # -- what is ---------------------------------------------------------------------------------------------------

    def running(self) -> list[Member]:
        """Those of the cluster whose process lives."""
        return [member for member in self.joined if member.is_running]

    def leader(self) -> Member:
        """The member that leads in the newest term.

        Raises:
            ClusterError: nobody does within a minute.
        """

        def found() -> Member | None:
            led = [(_term_of(member), member) for member in self.running() if _leads(member)]
            return max(led, key=lambda pair: pair[0])[1] if led else None

        return self.wait_for("leader", found)

    def listed(self) -> list[dict[str, object]]:
        """The members as somebody who answers a quorum read lists them."""

        def ask() -> list[dict[str, object]] | None:
            for member in self.running():
                answer = _asked(member, "GET", "/v2/members")
                if answer is not None and answer.status == 200:
                    members: list[dict[str, object]] = answer.json()["members"]
                    return members
            return None

        return self.wait_for("list of members", ask)

    def id_at(self, peer_url: str) -> str:
        """The id of the member at this peer URL; empty if there is none."""
        return next((str(member["id"]) for member in self.listed() if peer_url in _urls(member)), "")

    # -- what changes it -------------------------------------------------------------------------------------------

    def found(self, member: Member) -> None:
        """Start a cluster of this one."""
        member.cluster_flags |= {
            "initial-cluster": f"{member.name}={peer_url_of(member)}",
            "initial-cluster-state": "new",
        }
        self.joined.append(member)
        member.start()
        member.wait_ready()

    def add(self, member: Member) -> None:
        """`etcdctl member add`, and a start with the lines that it prints."""
        body = json.dumps({"peerURLs": [peer_url_of(member)]}).encode()
        self._until("POST", "/v2/members", body, lambda: bool(self.id_at(peer_url_of(member))))
        others = [(str(listed["name"]), url) for listed in self.listed() for url in _urls(listed)]
        pairs = ",".join(f"{name or member.name}={url}" for name, url in others)
        member.cluster_flags |= {"initial-cluster": pairs, "initial-cluster-state": "existing"}
        self.joined.append(member)
        member.start()

    def join(self, member: Member, replaces: str = "") -> None:
        """The add and the start in one step."""
        member.cluster_flags |= {"join": ",".join(other.client_url for other in self.running() if other is not member)}
        for name in ("initial-cluster", "initial-cluster-state", "initial-cluster-token"):
            member.cluster_flags.pop(name, None)
        if replaces:
            member.cluster_flags["replace"] = replaces
        if member not in self.joined:
            self.joined.append(member)
        member.start()

    def remove(self, member: Member) -> None:
        """Remove it, and see that its process ends as a removed one does."""
        self.remove_from_list(member)
        if member.is_running:
            code = member.wait_exit(WITHIN_S)
            if code != 0:
                raise ClusterError(f"{member.name} was removed and ended with {code}\n{member.log_tail()}")

    def remove_from_list(self, member: Member) -> None:
        """Remove it, whatever its process does."""
        self.joined.remove(member)
        peer_url = peer_url_of(member)
        member_id = self.id_at(peer_url)
        self._until("DELETE", f"/v2/members/{member_id}", b"", lambda: not self.id_at(peer_url))

    def move(self, member: Member, peer_url: str) -> None:
        """Tell the cluster that a member is found elsewhere."""
        member_id = self.id_at(peer_url_of(member))
        body = json.dumps({"peerURLs": [peer_url]}).encode()
        self._until("PUT", f"/v2/members/{member_id}", body, lambda: bool(self.id_at(peer_url)))
        member.cluster_flags["initial-advertise-peer-urls"] = peer_url

    def wipe(self, member: Member) -> None:
        """The member dies, and its disk with it."""
        member.kill()
        for path in member.data_dir.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def wait_voter(self, member: Member) -> None:
        """Wait until it serves and has a vote."""
        member.wait_ready()
        self.wait_for(f"vote of {member.name}", lambda: _is_voter(member))

    def wait_for(self, what: str, condition: Callable[[], T | None]) -> T:
        """Ask until `condition` gives something true.

        Raises:
            ClusterError: not within a minute.
        """
        deadline = time.monotonic() + WITHIN_S
        while time.monotonic() < deadline:
            if found := condition():
                return found
            pause_or_exit(next((member.pid for member in self.running()), os.getpid()))
        logs = "\n".join(member.log_tail()[-2000:] for member in self.joined)
        raise ClusterError(f"no {what} within {WITHIN_S:g} s\n{logs}")

    def _until(self, method: str, target: str, body: bytes, is_done: Callable[[], bool]) -> None:
        """Send a change to one after another until the list shows it."""

        def sent() -> bool:
            for member in self.running():
                _asked(member, method, target, body)
                if is_done():
                    return True
            return False

        self.wait_for(f"{method} {target}", sent)


def peer_url_of(member: Member) -> str:
    """Where the others find it."""
    return member.cluster_flags.get("initial-advertise-peer-urls", member.peer_url)


def _asked(member: Member, method: str, target: str, body: bytes = b"") -> Answer | None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return member.http(method, target, body=body or None, headers=JSON, timeout_s=_ASK_TIMEOUT_S)
    return None


def _leads(member: Member) -> bool:
    return member.self_stats().get("state") == "StateLeader"


def _term_of(member: Member) -> int:
    answer = _asked(member, "GET", "/v2/keys/")
    return 0 if answer is None else int(answer.header("X-Raft-Term") or "0")


def _is_voter(member: Member) -> bool:
    answer = _asked(member, "GET", "/metrics")
    return answer is not None and b"\netcd_server_is_learner 0" in answer.body


def _urls(listed: dict[str, object]) -> Iterator[str]:
    urls = listed["peerURLs"]
    assert isinstance(urls, list)
    return iter(urls)
