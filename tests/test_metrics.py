from kvraft.metrics import Metrics


def test_page_has_the_names_that_etcd_alert_rules_use() -> None:
    """The names of etcd 3.4 for what means the same here (contract A.11)."""
    metrics = Metrics()
    metrics.leader_changes_seen.add()
    metrics.log_sync_seconds.observe(0.0015)
    lines = metrics.render().decode().splitlines()
    for line in (
        "etcd_server_has_leader 0.0",
        "etcd_server_is_leader 0.0",
        "etcd_server_leader_changes_seen_total 1.0",
        "etcd_server_proposals_committed_total 0.0",
        "etcd_server_proposals_applied_total 0.0",
        "etcd_server_proposals_pending 0.0",
        "etcd_server_proposals_failed_total 0.0",
        "etcd_server_slow_apply_total 0.0",
        "etcd_server_heartbeat_send_failures_total 0.0",
        "etcd_server_health_success 0.0",
        "etcd_server_health_failures 0.0",
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.001"} 0.0',
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.002"} 1.0',
        'etcd_disk_wal_fsync_duration_seconds_bucket{le="8.192"} 1.0',
        "etcd_debugging_store_expires_total 0.0",
    ):
        assert line in lines
    assert any(line.startswith("process_open_fds ") for line in lines)
    assert not any("_created" in line for line in lines)


def test_labelled_totals_show_one_line_a_label() -> None:
    """A label's value appears once it has been counted."""
    metrics = Metrics()
    metrics.store_reads.add(2, "get")
    metrics.http_failed.add(1, "404", "QGET")
    metrics.store_reads.set(7, "getRecursive")
    page = metrics.render().decode()
    assert 'etcd_http_failed_total{code="404",method="QGET"} 1.0' in page
    assert 'etcd_debugging_store_reads_total{action="get"} 2.0' in page
    assert 'etcd_debugging_store_reads_total{action="getRecursive"} 7.0' in page


def test_plain_integers_are_copied_at_each_scrape() -> None:
    """Owners count without a lock; the page asks them."""
    metrics = Metrics()
    applied = iter((10, 20))
    metrics.before_scrape.append(lambda: metrics.proposals_applied.set(next(applied)))
    assert "etcd_server_proposals_applied_total 10.0" in metrics.render().decode()
    assert "etcd_server_proposals_applied_total 20.0" in metrics.render().decode()


def test_two_members_in_one_process_do_not_share_figures() -> None:
    """Each member has its own registry."""
    one, other = Metrics(), Metrics()
    one.is_leader.set(1)
    assert "etcd_server_is_leader 0.0" in other.render().decode()


def test_durations_kept_elsewhere_are_a_histogram_as_etcds() -> None:
    """Each bucket has those below it, and the names of its ends are Go's."""
    metrics = Metrics()
    metrics.peer_round_trips.replace({("a",): ([1, 0, 2, *[0] * 12, 1, 3], 0.5)})
    page = metrics.render().decode()
    name = "etcd_network_peer_round_trip_time_seconds"
    ends = "0.0001 0.0002 0.0004 0.0008 0.0016 0.0032 0.0064 0.0128 0.0256 0.0512 0.1024 0.2048 0.4096 0.8192 1.6384"
    for end, count in zip([*ends.split(), "3.2768", "+Inf"], [1, 1, *[3] * 13, 4, 7], strict=True):
        assert f'{name}_bucket{{To="a",le="{end}"}} {count}.0\n' in page
    assert f'{name}_sum{{To="a"}} 0.5\n' in page
    assert f'{name}_count{{To="a"}} 7.0\n' in page
