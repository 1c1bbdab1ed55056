"""The knobs of one run. Each seed draws its own (swarm testing): what is never combined is never tested."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Final, final

from kvraft.raft.settings import RaftSettings
from tests.simulation.streams import stream

FAULT_KINDS: Final = (
    "crash",
    "crash_at",
    "crash_all",
    "pause",
    "slow",
    "cut",
    "cut_one_way",
    "isolate",
    "swizzle",
    "loss",
    "duplicate",
    "late",
    "delay",
    "slow_disk",
    "sync_error",
    "drift",
    "transfer",
    "compact",
    "disconnect",
    "burst",
    "membership",
    "depose",
    "replay",
)
"""Every kind of fault that a schedule draws evenly; `nemesis` says what each does. Wipes are drawn beside them."""

SESSION_FAULT_KINDS: Final = ("cut_dial", "thin")
"""Those of sessions, beside the others."""

_NOT_OF_SESSIONS: Final = ("duplicate", "late", "replay")
"""What a stream never does."""

DISK_FAULT_KINDS: Final = (
    "power_cut",
    "power_cut_all",
    "disk_full",
    "flip",
    "unreadable",
    "astray",
    "lie",
    "rollback",
    "swap",
)
"""Those of a disk with sectors, beside the others; `disk_nemesis` says what each does."""

_SERVERS: Final = (1,) * 2 + (2,) * 2 + (3,) * 12 + (4,) * 2 + (5,) * 3 + (7,)
"""How many servers a run has, as often as it stands here. A run with seven takes nine times as long as one with one."""
_ON_SECTORS: Final = 1 / 6
"""Share of the seeds. They cost about twice the time of the others."""
_WITH_ACCOUNTS: Final = 1 / 3
"""Share of the seeds."""
_WITH_SESSIONS: Final = 1 / 3
"""Share of the seeds. The others have links that no transport would make, which is harder for the core."""


@final
@dataclass(slots=True, frozen=True)
class Options:
    """Everything about a run that is not in its fault schedule. Durations are milliseconds unless named otherwise."""

    seed: int
    servers: int
    spares: int
    """Servers beyond those that a membership change may add."""
    safety_ms: int
    """How long faults happen."""
    heartbeat_interval_ms: int
    election_timeout_ms: int
    message_bytes_max: int
    inflight_messages_max: int
    log_tail_bytes_max: int
    latency_us: int
    """Least delay of a message."""
    jitter_us: int
    """Greatest addition to it."""
    in_order: bool
    """Links keep order, as streams do; otherwise every message travels alone."""
    loss_per_mille: int
    duplicate_per_mille: int
    late_per_mille: int
    """Messages that arrive seconds later, in another term perhaps."""
    sync_us: int
    """Usual duration of a sync."""
    apply_delay_us: int
    step_delay_us: int
    """How long a server gathers inputs before a step."""
    snapshot_entries: int
    """Entries kept in the log behind the flushed state before it is compacted."""
    flush_ms: int
    """How often state is written behind."""
    reports_drops: bool
    """The transport says when something it was to send was dropped."""
    drift_per_mille: int
    """Greatest deviation of a server's clock from true speed."""
    operations_per_second: int
    keys: int
    value_bytes_max: int
    history_events_max: int
    fault_interval_ms: int
    fault_kinds: tuple[str, ...]
    """The kinds this run draws from."""
    quorum_core_only: bool
    """In the liveness phase heal only a random quorum, leave the rest as broken as it is."""
    wipe_interval_ms: int = 0
    """About so often a server loses its whole disk; 0 for never."""
    sessions: bool = False
    """Frames travel on sessions, in two lanes each (`sessions`); otherwise on loose links that lose and repeat them."""
    dial_retry_ms: int = 100
    bandwidth_bytes_per_s: int = 0
    """Of each link under a session; 0 for no limit."""
    queue_bytes_max: int = 1 << 20
    """What may wait for a link before more is dropped."""
    sync_holds_loop: bool = False
    """A sync is waited for on the loop while the disk seems quick, as a commit of an idle member is."""
    read_us_per_kib: int = 0
    """How long the loop reads and decodes a KiB of the log."""
    accounts: bool = False
    """Users and roles come, change and count; each client writes as somebody."""
    sectors: bool = False
    """Disks of sectors below the product's own storage, with faults of their own; else records kept or lost."""
    disk_fault_interval_ms: int = 8000
    disk_fault_kinds: tuple[str, ...] = ()

    @property
    def server_ids(self) -> tuple[int, ...]:
        """Every server of this run, spares last."""
        return tuple(range(1, self.servers + self.spares + 1))

    def raft_settings(self) -> RaftSettings:
        """The settings of every core in this run."""
        return RaftSettings(
            heartbeat_interval_ms=self.heartbeat_interval_ms,
            election_timeout_ms=self.election_timeout_ms,
            message_bytes_max=self.message_bytes_max,
            inflight_messages_max=self.inflight_messages_max,
            inflight_bytes_max=max(self.message_bytes_max * 4, 4096),
            uncommitted_bytes_max=1 << 20,
            log_tail_bytes_max=self.log_tail_bytes_max,
            committed_bytes_max=1 << 16,
            disk_read_bytes_max=self.message_bytes_max,
        )

    def as_json(self) -> str:
        """One line that, with the schedule, says all about a run."""
        return json.dumps(dataclasses.asdict(self))


def _wipe_interval_ms(seed: int, servers: int, spares: int, *, quorum_core_only: bool) -> int:
    """From a stream of its own: what else a seed draws was there before wipes were.

    Only where all servers are founders and all come back in the end, as a wiped one needs them.
    """
    random = stream(seed, 0, "wipes")
    wanted = random.random() < 0.5
    return random.choice((4_000, 10_000, 30_000)) if wanted and servers > 1 and not spares | quorum_core_only else 0


def _with_sessions(drawn: Options) -> Options:
    """From a stream of its own, as wipes are."""
    random = stream(drawn.seed, 0, "sessions")
    holds_loop = random.random() < 0.3
    if random.random() >= _WITH_SESSIONS:
        return dataclasses.replace(drawn, sync_holds_loop=holds_loop)
    return dataclasses.replace(
        drawn,
        sessions=True,
        sync_holds_loop=holds_loop,
        dial_retry_ms=random.choice((10, drawn.election_timeout_ms // 10, drawn.election_timeout_ms // 2)),
        bandwidth_bytes_per_s=random.choice((0, 0, 30_000, 1_000_000)),
        queue_bytes_max=random.choice((20_000, 1 << 20)),
        duplicate_per_mille=0,
        late_per_mille=0,
        fault_kinds=(
            *(kind for kind in drawn.fault_kinds if kind not in _NOT_OF_SESSIONS),
            *(kind for kind in SESSION_FAULT_KINDS if random.random() < 0.7),
        )
        or ("crash", "cut"),
        read_us_per_kib=random.choice((0, 30, 300)),
    )


def draw_options(seed: int) -> Options:
    """The options of a seed."""
    drawn = _with_sessions(draw_loose_options(seed))
    return dataclasses.replace(drawn, accounts=stream(seed, 0, "accounts").random() < _WITH_ACCOUNTS)


def draw_loose_options(seed: int) -> Options:
    """Those that it has on loose links, which hold up nothing; on sessions in part others (`draw_options`)."""
    random = stream(seed, 0, "options")
    election_ms = random.choice((300, 1000, 1000, 2000))
    kinds = [kind for kind in FAULT_KINDS if random.random() < 0.6] or ["crash", "cut"]
    inflight, message_bytes = random.choice(((1, 4096), (2, 65536), (8, 512), (64, 64), (64, 4096), (64, 65536)))
    latency_us, jitter_us = random.choice(
        ((100, 0), (100, 200), (500, 2000), (2000, 2000), (5000, 20_000), (40_000, 10_000))
    )
    spares = random.choice((0, 0, 1, 2)) if "membership" in kinds else 0
    if not spares:
        kinds = [kind for kind in kinds if kind != "membership"] or ["crash", "cut"]
    sectors = stream(seed, 0, "sectors")
    drawn = Options(
        seed=seed,
        servers=random.choice(_SERVERS),
        spares=spares,
        safety_ms=random.randrange(98_000, 137_000),
        heartbeat_interval_ms=election_ms // 10,
        election_timeout_ms=election_ms,
        message_bytes_max=message_bytes,
        inflight_messages_max=inflight,
        log_tail_bytes_max=random.choice((0, 256, 4096, 1 << 20)),
        latency_us=latency_us,
        jitter_us=jitter_us,
        in_order=random.random() < 0.6,
        loss_per_mille=random.choice((0, 0, 0, 5, 50)),
        duplicate_per_mille=random.choice((0, 0, 5, 50)),
        late_per_mille=random.choice((0, 0, 2, 10)),
        sync_us=random.choice((100, 1000, 10_000)),
        apply_delay_us=random.choice((0, 0, 500, 20_000)),
        step_delay_us=random.choice((50, 500, 3000)),
        snapshot_entries=random.choice((1, 5, 20, 50, 1000)),
        flush_ms=random.choice((50, 500, 5000)),
        reports_drops=random.random() < 0.5,
        drift_per_mille=random.choice((0, 10, 100)),
        operations_per_second=random.choice((2, 5, 10, 10, 20)),
        keys=random.choice((2, 6, 20)),
        value_bytes_max=random.choice((10, 100, 3000)),
        history_events_max=random.choice((3, 50, 1000)),
        fault_interval_ms=random.choice((1000, 2000, 3000, 6000)),
        fault_kinds=tuple(kinds),
        quorum_core_only=spares == 0 and random.random() < 0.4,
        sectors=sectors.random() < _ON_SECTORS,
        disk_fault_interval_ms=sectors.choice((2000, 5000, 10_000)),
        disk_fault_kinds=tuple(kind for kind in DISK_FAULT_KINDS if sectors.random() < 0.6) or ("power_cut",),
    )
    wipe_ms = _wipe_interval_ms(seed, drawn.servers, drawn.spares, quorum_core_only=drawn.quorum_core_only)
    # On sectors it is the damaged servers that lose their disks, when they have found it.
    return dataclasses.replace(drawn, wipe_interval_ms=0 if drawn.sectors else wipe_ms)
