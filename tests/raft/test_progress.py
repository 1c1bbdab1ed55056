"""What a leader knows of a follower: probe one, then a window; stale answers change nothing."""

from kvraft.raft.progress import Progress, ProgressState


def replicating(match_index: int = 5) -> Progress:
    """A follower that has acknowledged up to `match_index`, with nothing outstanding."""
    progress = Progress(next_index=match_index + 1, last_contact_ms=0)
    progress.acknowledged(match_index, 0)
    return progress


def test_probe_sends_one_message_and_waits() -> None:
    """While it is unknown where the logs agree, one message is outstanding at most."""
    progress = Progress(next_index=10, last_contact_ms=0)
    assert progress.may_send(64, 1000)
    progress.sent(12, 30, 0)
    assert not progress.may_send(64, 1000)
    assert progress.next_index == 10


def test_acknowledged_probe_leads_to_sending_ahead() -> None:
    """An acknowledgement says where the logs agree; from there messages go without waiting."""
    progress = Progress(next_index=10, last_contact_ms=0)
    progress.sent(12, 30, 0)
    assert progress.acknowledged(12, 0)
    assert progress.state is ProgressState.REPLICATE
    assert (progress.match_index, progress.next_index) == (12, 13)


def test_window_is_bounded_in_messages() -> None:
    """As many messages as the setting says, then none until one is acknowledged."""
    progress = replicating(5)
    progress.sent(6, 1, 0)
    progress.sent(7, 1, 0)
    assert not progress.may_send(2, 1000)
    progress.acknowledged(6, 0)
    assert progress.may_send(2, 1000)


def test_window_is_bounded_in_bytes() -> None:
    """Sending stops once that many bytes are outstanding; one message may cross the line."""
    progress = replicating(5)
    progress.sent(6, 90, 0)
    assert progress.may_send(64, 100)
    progress.sent(7, 90, 0)
    assert not progress.may_send(64, 100)
    progress.acknowledged(7, 0)
    assert progress.inflight_bytes == 0


def test_one_acknowledgement_frees_all_messages_before_it() -> None:
    """Acknowledgements are cumulative, so lost ones do not shrink the window."""
    progress = replicating(5)
    for index in range(6, 10):
        progress.sent(index, 10, 0)
    progress.acknowledged(8, 0)
    assert list(progress.inflight) == [(9, 10)]


def test_old_acknowledgement_changes_nothing() -> None:
    """A doubled or reordered reply neither lowers the match nor moves what is sent next."""
    progress = replicating(5)
    progress.sent(9, 10, 0)
    assert not progress.acknowledged(3, 0)
    assert (progress.match_index, progress.next_index, progress.state) == (5, 10, ProgressState.REPLICATE)


def test_rejection_of_a_message_that_was_never_sent_is_stale() -> None:
    """In PROBE only the refusal of exactly the last probe counts."""
    progress = Progress(next_index=10, last_contact_ms=0)
    assert not progress.is_stale_rejection(9)
    assert progress.is_stale_rejection(8)
    assert progress.is_stale_rejection(10)


def test_rejection_below_the_match_is_stale() -> None:
    """What was acknowledged cannot be refused any more."""
    progress = replicating(5)
    progress.sent(9, 10, 0)
    assert progress.is_stale_rejection(5)
    assert progress.is_stale_rejection(4)
    assert not progress.is_stale_rejection(6)


def test_loss_in_the_window_falls_back_to_the_match() -> None:
    """Only what was sent after the last acknowledgement can be lost; older entries are not sent again."""
    progress = replicating(5)
    progress.sent(6, 10, 0)
    progress.sent(9, 10, 0)
    progress.rejected(6, 0)
    assert (progress.state, progress.next_index, progress.inflight_bytes) == (ProgressState.PROBE, 6, 0)


def test_hint_skips_further_than_one_entry() -> None:
    """A refused probe goes back to where the logs may agree, not by one (section 5.3)."""
    progress = Progress(next_index=1000, last_contact_ms=0)
    progress.sent(1000, 1, 0)
    progress.rejected(999, 12)
    assert progress.next_index == 13
    assert progress.may_send(1, 1)


def test_hint_never_goes_below_the_match() -> None:
    """A wrong or old hint cannot take back what was acknowledged."""
    progress = replicating(5)
    progress.unreachable(0)
    progress.next_index = 9
    progress.rejected(8, 2)
    assert progress.next_index == 6


def test_every_refused_probe_goes_back_at_least_by_one() -> None:
    """Whatever the hint says, probing ends."""
    progress = Progress(next_index=10, last_contact_ms=0)
    progress.rejected(9, 50)
    assert progress.next_index == 9


def test_lost_probe_is_repeated_when_a_heartbeat_is_answered() -> None:
    """Retries are paced by heartbeats: one interval after the probe, not with every answer."""
    progress = Progress(next_index=10, last_contact_ms=0)
    progress.sent(12, 30, 1000)
    progress.heartbeat_answered(1050, 100)
    assert not progress.may_send(1, 1)
    progress.heartbeat_answered(1100, 100)
    assert progress.may_send(1, 1)


def test_repeated_probe_only_asks() -> None:
    """The first one may still be under way on a thin link, which copies of its entries would fill for ever."""
    progress = Progress(next_index=10, last_contact_ms=0)
    repeated = [progress.probe_repeated]
    progress.heartbeat_answered(100, 100)
    repeated.append(progress.probe_repeated)
    progress.sent(12, 30, 1000)
    progress.heartbeat_answered(1100, 100)
    repeated.append(progress.probe_repeated)
    progress.sent(9, 0, 1100)
    progress.rejected(9, 5)
    repeated.append(progress.probe_repeated)
    assert repeated == [False, False, True, False]


def test_stalled_window_is_asked_about_once_an_interval() -> None:
    """Messages without acknowledgement for an interval may be lost; one empty message finds out."""
    progress = replicating(5)
    progress.sent(9, 10, 1000)
    assert not progress.heartbeat_answered(1050, 100)
    assert progress.heartbeat_answered(1100, 100)
    assert not progress.heartbeat_answered(1150, 100)
    assert progress.heartbeat_answered(1200, 100)


def test_nothing_outstanding_asks_nothing() -> None:
    """A follower that has everything costs heartbeats only."""
    assert not replicating(5).heartbeat_answered(5000, 100)


def test_dropped_message_ends_sending_ahead() -> None:
    """After a drop nothing more is thrown at a dead connection; the next answered heartbeat goes on from the match."""
    progress = replicating(5)
    progress.sent(9, 10, 0)
    progress.unreachable(1000)
    assert progress.state is ProgressState.PROBE
    assert not progress.may_send(64, 1000)
    progress.heartbeat_answered(1100, 100)
    assert progress.may_send(64, 1000)
    assert progress.next_index == 6


def test_snapshot_pauses_everything_until_it_has_ended() -> None:
    """During a transfer neither heartbeats nor refusals make the leader send entries."""
    progress = Progress(next_index=3, last_contact_ms=0)
    progress.snapshot_needed()
    progress.heartbeat_answered(5000, 100)
    assert not progress.may_send(64, 1000)
    assert progress.is_stale_rejection(2)
    progress.snapshot_ended(40, 5000)
    assert (progress.state, progress.next_index) == (ProgressState.PROBE, 41)


def test_failed_snapshot_goes_back_to_the_match() -> None:
    """A transfer that failed changed nothing at the follower."""
    progress = Progress(next_index=3, last_contact_ms=0)
    progress.snapshot_needed()
    progress.snapshot_ended(0, 1000)
    assert progress.next_index == 1
    assert not progress.may_send(64, 1000)


def test_end_of_a_transfer_that_was_overtaken_changes_nothing() -> None:
    """The follower's acknowledgement may come before the end of the transfer is reported."""
    progress = Progress(next_index=3, last_contact_ms=0)
    progress.snapshot_needed()
    progress.acknowledged(40, 0)
    progress.snapshot_superseded()
    progress.acknowledged(45, 0)
    progress.snapshot_ended(40, 0)
    assert (progress.state, progress.next_index) == (ProgressState.REPLICATE, 46)
