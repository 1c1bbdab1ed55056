"""The figures of /v2/stats, as etcd computes them."""

from kvraft import clock
from kvraft.api_v2.go_json import render
from kvraft.member.stats import Rates, ServerStats, append_bytes
from kvraft.raft.effects import Role
from tests.member.fakes import log_of

SECOND = 1_000_000_000


def test_rate_is_samples_over_the_time_between_the_first_and_the_last() -> None:
    """Etcd v3.4.23 v2stats/queue.go: all samples count, also the first, over the span between the outer two."""
    rates = Rates()
    for at, size in ((0, 100), (SECOND // 4, 200), (SECOND // 2, 300)):
        rates.add(at, size)
    assert rates.per_second(SECOND) == (6.0, 1200.0)


def test_rate_is_taken_over_the_last_two_hundred() -> None:
    """What fell out counts neither as a package nor with its bytes."""
    rates = Rates()
    rates.add(0, 10**9)
    for number in range(1, 201):
        rates.add(number * SECOND // 100, 10)
    assert rates.per_second(2 * SECOND) == (200 / 1.99, 2000 / 1.99)


def test_rate_is_zero_without_two_samples_and_after_a_second_of_silence() -> None:
    """Then the samples are forgotten: the next rate begins anew."""
    rates = Rates()
    assert rates.per_second(0) == (0.0, 0.0)
    rates.add(0, 1)
    assert rates.per_second(1) == (0.0, 0.0)
    rates.add(SECOND // 2, 1)
    assert rates.per_second(SECOND) == (4.0, 4.0)
    assert rates.per_second(SECOND * 3 // 2 + 1) == (0.0, 0.0)
    rates.add(10 * SECOND, 7)
    rates.add(11 * SECOND, 7)
    assert rates.per_second(11 * SECOND) == (2.0, 14.0)


def test_self_stats_show_rates_of_what_went_through_in_etcds_order() -> None:
    """Each behind its count, and none in a direction without traffic."""
    stats = ServerStats(1, "n1")
    idle = list(stats.self_stats(Role.FOLLOWER, 0))
    assert idle[-2:] == ["recvAppendRequestCnt", "sendAppendRequestCnt"]
    entries = log_of(b"x" * 100)
    started_ns = clock.monotonic_ns()
    stats.on_append_received(entries)
    while clock.monotonic_ns() == started_ns:
        pass
    stats.on_append_received(entries)
    shown = stats.self_stats(Role.FOLLOWER, 2)
    assert list(shown)[-4:] == ["recvAppendRequestCnt", "recvPkgRate", "recvBandwidthRate", "sendAppendRequestCnt"]
    assert shown["recvAppendRequestCnt"] == 2
    packages, size = shown["recvPkgRate"], shown["recvBandwidthRate"]
    assert isinstance(packages, float)
    assert isinstance(size, float)
    assert abs(size / packages - append_bytes(entries)) < 1e-6
    stats.on_append_sent(2, [])
    stats.on_append_sent(3, entries)
    assert list(stats.self_stats(Role.LEADER, 1))[-3:] == ["sendAppendRequestCnt", "sendPkgRate", "sendBandwidthRate"]


def test_follower_that_never_answered_is_shown_as_etcd_shows_it() -> None:
    """One failure however often it is tried, and the minimum of no latencies is the largest int64 as a float64."""
    stats = ServerStats(1, "n1")
    for _ in range(100):
        stats.on_append_sent(2, [])
        stats.on_unreachable(2)
    assert render(stats.leader_stats([1, 2])) == (
        b'{"leader":"1","followers":{"2":{"latency":{"current":0,"average":0,"standardDeviation":0,'
        b'"minimum":9223372036854776000,"maximum":0},"counts":{"fail":1,"success":0}}}}'
    )


def test_failure_counts_again_after_an_answer() -> None:
    """What is counted is how often a follower was lost."""
    stats = ServerStats(1, "n1")
    for _ in range(3):
        stats.on_append_sent(2, [])
        stats.on_append_reply(2)
        stats.on_unreachable(2)
        stats.on_unreachable(2)
    followers = stats.leader_stats([1, 2])["followers"]
    assert isinstance(followers, dict)
    assert followers["2"]["counts"] == {"fail": 3, "success": 3}
