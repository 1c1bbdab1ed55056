"""Debian's etcdctl, in its v2 mode, with the endpoints of a system: what it prints, names and places masked."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from tests.conformance.comparison import masked_body
from tests.conformance.differential.pair import Server
from tests.conformance.wire import Request, keys_request

ENDS_WITHIN_S: Final = 20.0
ETCDCTL_TIMEOUTS: Final = ("--timeout", "10s", "--total-timeout", "15s")
"""Its own are 2 s and 5 s, which a loaded machine may need for an answer."""
FLANNEL_CONFIG: Final = '{"Network":"172.17.0.0/16"}'
_RAFT_INDEX: Final = re.compile(r"(Raft-Index|raftIndex)[\": ]+\d+")
_WORD: Final = re.compile(r"\b(ENDPOINT|PEER|ID|ADDED|GONE)([1-9]?)\b")
_INITIAL_CLUSTER: Final = re.compile(r'(ETCD_INITIAL_CLUSTER=")([^"]*)')
_ORDER_BY_CHANCE: Final = re.compile(r"<client URL of \w+>(?= has no leader)")
_ALERT: Final = re.compile("remote error: tls: [a-z ]+")
"""Go says "bad certificate" for whatever is wrong with one, OpenSSL has more of the words of RFC 8446, section 6.2."""
_PEEK: Final = re.compile("readLoopPeekFailLocked: (?=remote error: tls)")
"""Go's word for an alert that came before the request was written, and not after: chance."""
_MEMBER_ID: Final = re.compile(r"\b[0-9a-f]{12,16}\b")


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command printed, names and places masked, and its exit code."""

    stdout: str
    stderr: str
    exit_code: int


@final
class Etcdctl:
    """etcdctl with the endpoints of one system."""

    def __init__(self, server: Server, *options: str) -> None:
        """With global options before every command: who asks, and by which certificates."""
        program = shutil.which("etcdctl")
        assert program is not None, "etcdctl is not installed: the conformance tests need etcd-client (`make deps`)"
        self._program = program
        self.server: Final = server
        self._options = options
        self._added = ""

    def command(self, *words: str) -> list[str]:
        """The command line, with what stands for words that differ between systems (see `_meant`)."""
        urls = self.server.system.client_urls
        endpoints = ["--endpoints", ",".join(urls)] if "--endpoints" not in words else []
        return [
            self._program,
            *endpoints,
            *ETCDCTL_TIMEOUTS,
            *self._options,
            *(_WORD.sub(self._meant, word) for word in words),
        ]

    def _meant(self, found: re.Match[str]) -> str:
        """What a word means here.

        `ENDPOINT` is the client URL of the first member, `PEER2` the peer URL of the second, `ID2` its id, `ADDED` the
        id of the member that has not started, `GONE` what that was when it was last named.
        """
        members, kind, number = self.server.system.cluster.members, found[1], int(found[2] or "1") - 1
        if kind == "ENDPOINT":
            return members[0].client_url
        if kind == "PEER":
            return members[number].peer_url
        if kind == "ID":
            return self._ids()[members[number].name]
        if kind == "ADDED":
            self._added = self._ids()[""]
        return self._added

    def _ids(self) -> dict[str, str]:
        """The members' ids by their names."""
        members = json.loads(self.server.ask(Request("GET", b"/v2/members")).body)["members"]
        return {member["name"]: member["id"] for member in members}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command whose output is read line by line."""
        return subprocess.Popen(
            self.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
        )

    def run(self, words: Sequence[str], stdin: str = "", *, settle: bool = True) -> Outcome:
        """Run a command to its end; then every member has applied what it did, unless that would take a quorum."""
        done = subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=ENDS_WITHIN_S,
            check=False,
            env=environment(),
        )
        if settle:
            self.settle()
        return Outcome(self.masked(done.stdout, words), self.masked(done.stderr, words), done.returncode)

    def settle(self) -> None:
        """Wait until every member has applied all: etcdctl asks any of them."""
        self.server.ask(keys_request("GET", "/", query="quorum=true"))
        for member in range(len(self.server.system.client_urls)):
            self.server.catch_up(member)

    def masked(self, text: str, words: Sequence[str] = ()) -> str:
        """Output with places, ids, times and raft positions masked; lines sorted where their order is chance."""
        for member in self.server.system.cluster.members:
            text = text.replace(member.client_url, f"<client URL of {member.name}>")
            text = text.replace(member.peer_url, f"<peer URL of {member.name}>")
            text = text.replace(f"127.0.0.1:{member.client_port}", f"<address of {member.name}>")
        text = _PEEK.sub("", text)
        text = _ALERT.sub("remote error: tls: <alert>", text)
        text = _ORDER_BY_CHANCE.sub("<client URL>", text)
        text = _MEMBER_ID.sub("<id>", _RAFT_INDEX.sub(r"\1 <raft index>", text))
        text = masked_body(text.encode())[0].decode()
        if "ls" in words and "--sort" not in words:
            return "\n".join(sorted(text.split("\n")))
        if {"cluster-health", "member"} & set(words):
            leaders = text.count("isLeader=true")
            text = _INITIAL_CLUSTER.sub(lambda found: found[1] + ",".join(sorted(found[2].split(","))), text)
            lines = sorted(re.sub(r"isLeader=\w+", "isLeader=<...>", text).split("\n"))
            return "\n".join([*lines, f"{leaders} leaders"])
        return text


def environment() -> dict[str, str]:
    """Ours, with etcdctl in its v2 mode and no other setting for it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    return {**kept, "ETCDCTL_API": "2"}


def words_of(line: str) -> list[str]:
    """A command line in words: split at blanks, `CONFIG` stands for flannel's configuration."""
    return [FLANNEL_CONFIG if word == "CONFIG" else word for word in line.split()]


def agree(both: tuple[Etcdctl, Etcdctl], script: str, stdin: str = "") -> list[Outcome]:
    """Run a script, one command a line, on both; every outcome is the same. Returns the outcomes."""
    outcomes = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        expected, actual = (tool.run(words_of(line), stdin) for tool in both)
        assert actual == expected, f"{line}\nexpected {expected}\nactual {actual}"
        outcomes.append(expected)
    return outcomes
