"""Members flush one after the other, each as often as it would alone."""

import itertools
from collections.abc import Iterator

import pytest

from kvraft.member.flush_turns import FlushTurns
from kvraft.member.settings import MemberSettings
from kvraft.raft.restored import LogPosition

EVERY_MS = 5_000
COMMANDS = 20_000
SETTINGS = MemberSettings(flush_interval_ms=EVERY_MS, flush_commands_max=COMMANDS)
LOOK_MS = 100


def flushes(
    own_id: int, servers: tuple[int, ...], per_look: int, looks: int, idle_ms: int = 0
) -> Iterator[tuple[int, int]]:
    """When a member flushes and how many entries, while so many are applied between two looks, first none for long."""
    turns = FlushTurns(own_id, SETTINGS, 0)
    flushed = LogPosition()
    for look in range(1, looks + 1):
        now_ms = idle_ms + look * LOOK_MS
        applied = LogPosition(index=look * per_look, clock_ms=now_ms)
        if turns.is_due(flushed, applied, servers, now_ms):
            yield now_ms, applied.index - flushed.index
            flushed = applied
            turns.flushed(now_ms)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("per_look", [1, 50, 900, 1_400])
@pytest.mark.parametrize("idle_ms", [0, 60_000, 61_300, 63_700])
def test_no_two_members_flush_at_once(size: int, per_look: int, idle_ms: int) -> None:
    """By count where much is written, by the log's clock where little is; the gaps between them are an equal share.

    With the first write after a while all of them flush, which is little, and then each finds its place again.
    """
    servers = tuple(range(10, 10 + size))
    period_ms = min(EVERY_MS, COMMANDS * LOOK_MS // per_look)
    looks = 10 * EVERY_MS // LOOK_MS
    by_member = {server: list(flushes(server, servers, per_look, looks, idle_ms)) for server in servers}
    settled_ms = idle_ms + 2 * EVERY_MS
    moments = sorted(now_ms for each in by_member.values() for now_ms, _ in each if now_ms >= settled_ms)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    together = sum(gap < period_ms / size / 2 for gap in gaps)
    # Where few entries are written, the turns by count are rare, and meet those by the clock as they come.
    assert together <= len(gaps) // 4, gaps
    for each in by_member.values():
        assert len(each) >= (looks * LOOK_MS) // period_ms - 1
        assert max(entries for _, entries in each) <= COMMANDS + per_look
        assert max(later - earlier for (earlier, _), (later, _) in itertools.pairwise(each)) <= EVERY_MS * 3 // 2


def test_who_is_in_no_configuration_flushes_like_the_first() -> None:
    """A member that joins has applied none that names it."""
    assert list(flushes(1, (), 900, 200)) == list(flushes(1, (7, 8, 9), 900, 200)) == list(flushes(7, (7, 8), 900, 200))


def test_what_nobody_writes_behind_is_flushed_all_the_same() -> None:
    """The log's clock stands still; the member's own goes on."""
    turns = FlushTurns(1, SETTINGS, 0)
    flushed, applied = LogPosition(10, 1, b"", 1_000), LogPosition(11, 1, b"", 1_001)
    assert not turns.is_due(flushed, applied, (1, 2, 3), EVERY_MS * 3 // 2 - 1)
    assert turns.is_due(flushed, applied, (1, 2, 3), EVERY_MS * 3 // 2)
    turns.flushed(EVERY_MS)
    assert not turns.is_due(applied, LogPosition(12, 1, b"", 1_002), (1, 2, 3), 2 * EVERY_MS)
