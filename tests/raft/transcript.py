"""Runs a script of commands against a small cluster and writes down everything that happens.

A script (`scripts/*.txt`) is comments (`#`), commands (`> `) and, under each command, what it printed when the script
was last reviewed. `test_scripts.py` runs the commands and compares. After a wanted change:

    python -m tests.raft.transcript            # regenerates every script; review the difference
    python -m tests.raft.transcript figure_8   # one of them
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Effects
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.inputs import Propose, ProposeConfiguration, ReadRequest, TransferLeadership
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    RebuildReply,
    RebuildRequest,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from kvraft.raft.roles import Follower
from kvraft.raft.settings import RaftSettings
from tests.raft.cluster import Cluster, Disk, Flight, Server, founded
from tests.raft.made import at_once, when_durable

SCRIPTS = Path(__file__).parent / "scripts"


class Transcript:
    """A cluster, and the lines that its last command has printed."""

    def __init__(self) -> None:
        self.cluster = Cluster([1])
        self.lines: list[str] = []
        self.token = 0
        self.cut: set[tuple[int, int]] = set()

    def command(self, line: str) -> list[str]:
        """Run one command; `quiet` in front of it prints nothing."""
        self.lines = []
        words = line.split()
        quiet = words[0] == "quiet"
        if quiet:
            words = words[1:]
        arguments = [word for word in words[1:] if "=" not in word]
        options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        getattr(self, "do_" + words[0].replace("-", "_"))(arguments, options)
        return [] if quiet else self.lines

    # -- commands

    def do_cluster(self, _arguments: list[str], options: dict[str, str]) -> None:
        """`cluster voters=1,2,3 [learners=4] [message_bytes=1]`: start anew."""
        settings = RaftSettings(
            heartbeat_interval_ms=10,
            election_timeout_ms=100,
            message_bytes_max=int(options.get("message_bytes", 1 << 20)),
        )
        self.cluster = Cluster(_ids(options["voters"]), learners=_ids(options.get("learners", "")), settings=settings)
        self.cluster.on_step = self._write_step
        self.cluster.drop = self._is_cut
        self.cut = set()

    def do_campaign(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`campaign 1`: the server's election timeout passes now."""
        for server_id in map(int, arguments):
            raft = self.cluster.servers[server_id].raft
            raft._state.role.election_deadline_ms = self.cluster.now_ms  # type: ignore[attr-defined] # not on a leader
            self.cluster.step(server_id)

    def do_expire(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`expire 2 3`: these followers have not heard their leader for an election timeout."""
        for word in arguments:
            role = self.cluster.servers[int(word)].raft._state.role
            assert isinstance(role, Follower), "only followers have a lease"
            role.lease_until_ms = role.voted_until_ms = 0

    def do_propose(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`propose 1 a b`: commands, in one step of the server."""
        proposals = []
        for word in arguments[1:]:
            self.token += 1
            proposals.append(Propose(self.token, word.encode()))
        self.cluster.step(int(arguments[0]), *proposals)

    def do_read(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`read 1 7`: a linearizable read with id 7."""
        self.cluster.step(int(arguments[0]), *(ReadRequest(int(word)) for word in arguments[1:]))

    def do_transfer(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`transfer 1 2`: server 1 hands over to server 2."""
        self.cluster.step(int(arguments[0]), TransferLeadership(int(arguments[1])))

    def do_configure(self, arguments: list[str], options: dict[str, str]) -> None:
        """`configure 1 voters=1,2 learners=3`: propose a configuration on server 1."""
        self.token += 1
        wanted = founded(_ids(options["voters"]), _ids(options.get("learners", "")))
        self.cluster.step(int(arguments[0]), ProposeConfiguration(self.token, wanted))

    def do_deliver(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`deliver [2]`: hand over what is on the network now (to some servers only), and step them."""
        wanted = {int(word) for word in arguments} or set(self.cluster.servers)
        later = [flight for flight in self.cluster.network if flight.to_server not in wanted]
        self.cluster.network = [flight for flight in self.cluster.network if flight.to_server in wanted]
        self.cluster.deliver()
        for server in self.cluster.servers.values():
            if server.up and server.server_id in wanted and (server.inbox or server.wanted):
                self.cluster.step(server.server_id)
        self.cluster.network = later + self.cluster.network

    def do_lose(self, _arguments: list[str], _options: dict[str, str]) -> None:
        """`lose`: everything on the network is lost."""
        for flight in self.cluster.network:
            self.lines.append(f"lost {flight.from_server} -> {flight.to_server} {_show(flight.message)}")
        self.cluster.network = []

    def do_settle(self, _arguments: list[str], _options: dict[str, str]) -> None:
        """`settle`: deliver and step until nothing is due at this time."""
        self.cluster.settle()

    def do_run(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`run 20`: let so many milliseconds pass, with all that is due in them."""
        self.cluster.run(int(arguments[0]))

    def do_isolate(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`isolate 1 2`: cut these off from the others, not from each other."""
        inside = {int(word) for word in arguments}
        outside = set(self.cluster.servers) - inside
        self.cut |= {(one, other) for one in inside for other in outside}
        self.cut |= {(other, one) for one in inside for other in outside}

    def do_heal(self, _arguments: list[str], _options: dict[str, str]) -> None:
        """`heal`: every link works again."""
        self.cut = set()

    def do_crash(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`crash 1`: stop servers; what they had not synced is lost."""
        for word in arguments:
            self.cluster.crash(int(word))

    def do_restart(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`restart 1`: start servers again from their disks."""
        for word in arguments:
            self.cluster.restart(int(word))

    def do_wipe(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`wipe 3`: the server comes back on an empty disk; what was on its way from or to it is lost."""
        for word in arguments:
            self.cluster.wipe(int(word))

    def do_add(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`add 4`: start a new, empty server that knows nobody."""
        for word in arguments:
            self.cluster.add(int(word), Disk(founded([])))

    def do_disk(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`disk off | on`: whether disks sync by themselves."""
        self.cluster.auto_sync = arguments == ["on"]

    def do_sync(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`sync 1`: what the servers issued becomes durable, and they hear of it."""
        for word in arguments:
            self.cluster.sync(int(word))
            self.cluster.step(int(word))

    def do_compact(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`compact 1 5`: drop server 1's log up to index 5."""
        self.cluster.compact(int(arguments[0]), int(arguments[1]))

    def do_status(self, _arguments: list[str], _options: dict[str, str]) -> None:
        """`status`: every server in one line."""
        for server in self.cluster.servers.values():
            self.lines.append(_status(server))

    def do_log(self, arguments: list[str], _options: dict[str, str]) -> None:
        """`log 1`: the entries that a server's log holds, in memory or on disk."""
        for word in arguments:
            log = self.cluster.servers[int(word)].raft._state.log
            entries: list[Entry] = []
            while log.base.index + len(entries) < log.last_index:
                entries += log.slice(log.first_index + len(entries), log.last_index, 1 << 30)
            self.lines.append(f"{word} " + (" ".join(map(_entry, entries)) or "empty"))

    # -- writing down

    def _is_cut(self, flight: Flight) -> bool:
        return (flight.from_server, flight.to_server) in self.cut

    def _write_step(self, server: Server, effects: Effects) -> None:
        who = f"{server.server_id}@{server.raft.current_term}"
        self.lines.extend(f"{who} {line}" for line in _effects(effects))


def _effects(effects: Effects) -> Iterator[str]:
    if effects.divergence is not None:
        yield f"DIVERGENCE at {effects.divergence.index}: {effects.divergence.detail}"
    if effects.role_change is not None:
        yield f"is {effects.role_change.role}, leader {effects.role_change.leader_id or 'unknown'}"
    if effects.configuration is not None:
        yield f"uses {_configuration(effects.configuration)}"
    yield from (f"accepts #{accepted.token} as {accepted.index}@{accepted.term}" for accepted in effects.accepted)
    yield from (f"refuses #{refused.token}: {refused.reason}" for refused in effects.refused)
    if effects.persist is not None:
        persist = effects.persist
        parts = [f"persists batch {persist.batch_id}"]
        if persist.hard_state is not None:
            hard = persist.hard_state
            parts.append(f"term={hard.current_term} vote={hard.voted_for} commit={hard.commit_index}")
        if persist.truncate_from:
            parts.append(f"without {persist.truncate_from}..")
        parts.extend(map(_entry, persist.entries))
        if not persist.must_sync:
            parts.append("(no sync)")
        yield " ".join(parts)
    yield from (f"-> {sent.to_server} {_show(sent.message)}" for sent in at_once(effects))
    yield from (f"-> {sent.to_server} when durable: {_show(sent.message)}" for sent in when_durable(effects))
    if effects.install is not None:
        yield f"installs {_show(effects.install)}"
    yield from (f"wants a snapshot sent to {wanted.to_server}" for wanted in effects.send_snapshots)
    if effects.committed:
        yield "applies " + " ".join(map(_entry, effects.committed))
    yield from (f"read {ready.read_id} is ready at {ready.read_index}" for ready in effects.reads_ready)
    yield from (f"read {read_id} failed" for read_id in effects.reads_failed)


def _status(server: Server) -> str:
    raft = server.raft
    line = (
        f"{server.server_id} {raft.role} term={raft.current_term} leader={raft.leader_id} "
        f"log={raft.first_log_index}..{raft.last_log_index} commit={raft.commit_index} applied={raft.last_applied}"
    )
    for peer, progress in raft.progress.items():
        line += f" [{peer}: {progress.state} match={progress.match_index} next={progress.next_index}]"
    return line if server.up else f"{server.server_id} down"


def _entry(entry: Entry) -> str:
    body = ""
    if entry.kind is EntryKind.COMMAND:
        body = ":" + entry.payload.decode()
    elif entry.kind is EntryKind.CONFIGURATION:
        body = f":({_configuration(Configuration.decode(entry.payload))})"
    return f"{entry.index}@{entry.term}{body}"


def _configuration(configuration: Configuration) -> str:
    text = "voters " + ",".join(map(str, configuration.voters))
    if configuration.learners:
        text += " learners " + ",".join(map(str, configuration.learners))
    return text


def _show(message: Message) -> str:
    name = type(message).__name__
    match message:
        case RequestPreVote() | RequestVote():
            return f"{name} last={message.last_log_index}@{message.last_log_term}"
        case RequestPreVoteReply() | RequestVoteReply():
            return f"{name} {'yes' if message.granted else 'no'}"
        case AppendEntries():
            entries = " ".join(map(_entry, message.entries)) or "nothing"
            after = f"{message.prev_log_index}@{message.prev_log_term}"
            return f"{name} {entries} after {after} commit={message.leader_commit}"
        case AppendEntriesReply(success=True):
            return f"{name} match={message.match_index}"
        case AppendEntriesReply():
            return f"{name} refused={message.match_index} hint={message.hint_index}@{message.hint_term}"
        case Heartbeat():
            read = f" read={message.read_id}" if message.read_id else ""
            return f"{name} commit={message.leader_commit}{read}"
        case HeartbeatReply():
            read = f" read={message.read_id}" if message.read_id else ""
            return f"{name} last={message.last_log_index}{read}"
        case ReadIndexRequest():
            return name
        case ReadIndexReply():
            return f"{name} index={message.read_index}"
        case InstallSnapshot():
            return f"{name} {message.last_included_index}@{message.last_included_term}"
        case TimeoutNow() | RebuildRequest():
            return name
        case RebuildReply():
            return (
                f"{name} knows nothing"
                if message.blank
                else f"{name} last={message.last_log_index}@{message.last_log_term}"
            )


def _ids(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def run_script(text: str) -> str:
    """The script with what its commands print now in place of what they printed before."""
    transcript = Transcript()
    written: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            written.append(line)
            written.extend(transcript.command(line[2:]))
        elif not line or line.startswith("#"):
            written.append(line)
    return "\n".join(written) + "\n"


def regenerate(names: Iterable[str]) -> None:
    """Rewrite scripts in place."""
    for path in sorted(SCRIPTS.glob("*.txt")):
        if not names or path.stem in names:
            path.write_text(run_script(path.read_text()))


if __name__ == "__main__":
    regenerate(sys.argv[1:])
