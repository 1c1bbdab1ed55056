"""The clients: writes with unique values on a few keys, reads, bursts. Their answers go to the history."""

from random import Random
from typing import Final, final

from kvraft.keyspace.commands import (
    NO_TTL,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Update,
)
from tests.simulation.accounts import JUDGED_BY_OTHERS, ROOT, drawn_change, drawn_client
from tests.simulation.context import Context
from tests.simulation.member import SimulatedMember
from tests.simulation.model import Result
from tests.simulation.streams import stream

_TIMEOUT_US: Final = 5_000_000
_QUEUE: Final = b"/q"
_ACCOUNTS_SHARE: Final = 0.08
"""Changes of users and roles for each other operation, where there are any."""
_JUDGEMENTS_MAX: Final = 16
"""As `kvraft/api_v2/guard.py` has it."""


@final
class Workload:
    """An open loop of operations at a mean rate."""

    def __init__(self, context: Context, members: dict[int, SimulatedMember]) -> None:
        self._context = context
        self._members = members
        self._random = stream(context.options.seed, 0, "workload")
        self._accounts_random = stream(context.options.seed, 0, "accounts of the workload")
        """Of its own: without accounts a seed has the same operations."""
        self._value = 0
        self._stopped = False
        self._last_seen: dict[bytes, tuple[bytes, int]] = {}
        """What compare-and-swap compares with: the last answer about a key."""
        self._pending: dict[int, bytes | None] = {}
        self.started = 0
        self.answered = 0
        self.unknown = 0
        self.refused = 0

    @property
    def pending(self) -> int:
        """Operations that wait for their answer or time-out."""
        return len(self._pending)

    def start(self) -> None:
        """Begin."""
        self._next()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True

    def _next(self) -> None:
        if self._stopped:
            return
        self._operation()
        mean_s = 1 / self._context.options.operations_per_second
        self._context.scheduler.after(int(self._random.expovariate(1 / mean_s) * 1_000_000), self._next)

    def burst(self, at_ms: int, count: int) -> bool:
        """So many writes at once, through all members. Whether any of them was sent.

        Each burst draws from a stream of its own: a schedule without it has the same operations otherwise.
        """
        random = stream(self._context.options.seed, at_ms, "burst")
        before = self.pending
        for number in range(count):
            self.write(self._any_member(random), self._command(random, b"b%d-%d" % (at_ms, number)))
        return self.pending > before

    def _any_member(self, random: Random) -> SimulatedMember:
        return self._members[random.randrange(1, len(self._members) + 1)]

    def _key(self, random: Random) -> bytes:
        return b"/k%d" % random.randrange(self._context.options.keys)

    def _operation(self) -> None:
        random = self._random
        if self._context.options.accounts and self._accounts_random.random() < _ACCOUNTS_SHARE:
            change = drawn_change(self._accounts_random)
            self.write(self._any_member(self._accounts_random), change)
        choice = random.random()
        member = self._any_member(random)
        if choice < 0.25:
            self.read(member, self._key(random))
        elif choice < 0.35:
            self._local_read(member, self._key(random))
        else:
            self._value += 1
            user = drawn_client(self._accounts_random) if self._context.options.accounts else ROOT
            self.write(member, self._command(random, b"v%d" % self._value), user)

    def _command(self, random: Random, value: bytes) -> Command:
        """Any command, with a value that begins as given: each is another."""
        value += b"." * int(random.random() ** 4 * self._context.options.value_bytes_max)
        key = self._key(random)
        known = self._last_seen.get(key, (b"never", 1))
        ttl_s = random.choice((1, 2, 5, 20)) if random.random() < 0.2 else NO_TTL
        choice = random.random()
        if choice < 0.40:
            return Set(key, value, ttl_s=ttl_s)
        if choice < 0.55:
            if random.random() < 0.5:
                return CompareAndSwap(key, value, prev_value=known[0], ttl_s=ttl_s)
            return CompareAndSwap(key, value, prev_index=known[1], ttl_s=ttl_s)
        if choice < 0.65:
            return Create(key, value, ttl_s=ttl_s)
        if choice < 0.75:
            return Update(key, value, ttl_s=ttl_s)
        if choice < 0.80:
            return CompareAndDelete(key, prev_value=known[0])
        if choice < 0.90:
            return Delete(key)
        if choice < 0.95:
            return CreateInOrder(_QUEUE, value, ttl_s=ttl_s if ttl_s != NO_TTL else 20)
        return Set(key, b"", ttl_s=20, refresh=True)

    def write(self, member: SimulatedMember, command: Command, user: str = ROOT) -> int:
        """Send a user's command through a member; returns the operation's number, which `is_pending` knows."""
        self.started += 1
        number = self.started
        self._pending[number] = None
        self._send(number, member, command, user, _JUDGEMENTS_MAX)
        return number

    def _send(self, number: int, member: SimulatedMember, command: Command, user: str, judgements_left: int) -> None:
        floor = self._context.history.floor
        request_id: bytes | None = None

        def done(log_index: int, result: Result) -> None:
            assert request_id is not None
            self._context.history.write_ended(request_id, log_index, result, floor)
            if result.error_code == JUDGED_BY_OTHERS and judgements_left and self.is_pending(number):
                self._send(number, member, command, user, judgements_left - 1)
                return
            if result.value is not None:
                self._last_seen[result.path] = (result.value, result.etcd_index)
            self.answered += 1
            self._pending.pop(number, None)

        def failed(certain: bool) -> None:
            if certain:
                assert request_id is not None
                self._context.history.write_refused(request_id)
                self.refused += 1
            else:
                self.unknown += 1
            self._pending.pop(number, None)

        request_id = member.desk.submit(command, done, failed, user)
        if request_id is None:
            self.refused += 1
            self._pending.pop(number, None)
            return
        self._context.scheduler.after(_TIMEOUT_US, self._write_timed_out, number, member, request_id)

    def _write_timed_out(self, number: int, member: SimulatedMember, request_id: bytes) -> None:
        if self._pending.pop(number, 0) == 0:
            return
        self.unknown += 1
        member.desk.forget(request_id)

    def is_pending(self, number: int) -> bool:
        """Whether an operation still waits."""
        return number in self._pending

    def read(self, member: SimulatedMember, key: bytes) -> int:
        """Read linearizably through a member; returns the operation's number, which `is_pending` knows."""
        self.started += 1
        number = self.started
        self._pending[number] = None
        floor = self._context.history.floor

        def done(applied_index: int, seen: tuple[bytes, int] | None) -> None:
            if self._pending.pop(number, 0) == 0:
                return
            self._context.history.read_ended(key, applied_index, seen, floor)
            if seen is not None:
                self._last_seen[key] = seen
            self.answered += 1

        def failed(_certain: bool) -> None:
            self._pending.pop(number, None)
            self.refused += 1

        if not member.up:
            failed(True)
            return number
        member.desk.read(key, done, failed)
        self._context.scheduler.after(_TIMEOUT_US, self._read_timed_out, number)
        return number

    def _read_timed_out(self, number: int) -> None:
        self._pending.pop(number, None)

    def _local_read(self, member: SimulatedMember, key: bytes) -> None:
        answer = member.desk.local_read(key)
        if answer is None:
            return
        applied_index, etcd_index, seen = answer
        self._context.history.local_read_ended(member.server_id, member.boots, key, applied_index, etcd_index, seen)
