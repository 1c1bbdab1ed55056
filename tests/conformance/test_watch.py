"""The watch scenarios a to o of the contract's notebook, live against etcd and kvraft.

Where section A.7 of the contract names a bug of etcd, the test asserts the bug of etcd and the right thing of kvraft.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.conformance.comparison import masked_body
from tests.conformance.scene import EVENT_WITHIN_S, SILENCE_S, WATCHER, Scene, are_silent, scene
from tests.conformance.systems import HISTORY_SIZE, System
from tests.conformance.wire import Answer, Head

pytestmark = pytest.mark.slow

SLOW_CONSUMER_EVENTS: Final = 2500
SLOW_CONSUMER_VALUE: Final = "x" * 4000
"""With 2,500 events more than the sockets of both sides hold (4 MiB), and than etcd's buffer of 100 events."""


@pytest.fixture(params=["etcd", "subject", "subject_of_three", "subject_with_auth"])
def stage(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene on each system in turn, on the last one by somebody with a password."""
    running: System = request.getfixturevalue(request.param)
    with scene(running, WATCHER if request.param == "subject_with_auth" else None) as opened:
        yield opened


def event_of(answer: Answer) -> bytes:
    """The event that a watcher should see for a write: the write's own answer."""
    return answer.body


def headers_of(head: Head) -> dict[str, str]:
    """The headers that say something, by name."""
    wanted = ("Content-Type", "X-Etcd-Index", "Transfer-Encoding", "Content-Length")
    return {name: value for name, value in head.headers if name in wanted}


def parsed(event: bytes | None) -> Any:
    """An event as JSON values."""
    assert event is not None, "the answer ended"
    return json.loads(event)


def test_a_live_watch_sends_its_head_at_once_and_then_one_event(stage: Scene) -> None:
    """Scenario a: chunked, `X-Etcd-Index` of the opening, the event in one chunk with a newline, then the end."""
    watch = stage.watch("/a")
    opened_at = stage.index()
    assert watch.head.status == 200
    assert headers_of(watch.head) == {
        "Content-Type": "application/json",
        "X-Etcd-Index": str(opened_at),
        "Transfer-Encoding": "chunked",
    }
    written = stage.put("/a")
    assert written.body.endswith(b"}\n")
    assert watch.only_event() == event_of(written)


def test_wait_index_in_history_answers_at_once_with_the_first_match(stage: Scene) -> None:
    """Scenario b: the event at or after the index asked for; `X-Etcd-Index` is the store's now."""
    first, second = stage.put("/b"), stage.put("/b", "value=2")
    for written in (first, second):
        watch = stage.watch("/b", f"waitIndex={written.etcd_index}")
        assert headers_of(watch.head)["X-Etcd-Index"] == str(second.etcd_index)
        assert watch.only_event() == event_of(written)


def test_the_connection_serves_on_after_the_event(stage: Scene) -> None:
    """Scenario c: a second request on the same connection is answered, with a Content-Length."""
    written = stage.put("/c")
    watch = stage.watch("/c", f"waitIndex={written.etcd_index}")
    assert watch.only_event() == event_of(written)
    answer = watch.ask(f"{stage.path}/c")
    assert answer.status == 200
    assert headers_of(answer.head)["Content-Length"] == str(len(answer.body))
    assert parsed(answer.body)["action"] == "get"


def test_wait_index_zero_is_from_now_on(stage: Scene) -> None:
    """Scenario d: `waitIndex=0` is as if it were not given."""
    stage.put("/d")
    watch = stage.watch("/d", "waitIndex=0")
    assert watch.is_silent()
    written = stage.put("/d", "value=2")
    assert watch.only_event() == event_of(written)


def test_wait_index_in_the_future_passes_earlier_events_by(stage: Scene) -> None:
    """Scenario d: the first event with at least that index."""
    now = stage.put("/d").etcd_index
    watch = stage.watch("/d", f"waitIndex={now + 2}")
    assert headers_of(watch.head)["X-Etcd-Index"] == str(now)
    stage.put("/d", "value=2")
    assert watch.is_silent()
    written = stage.put("/d", "value=3")
    assert watch.only_event() == event_of(written)


def test_wait_index_of_another_founding_is_answered_as_a_cleared_one(stage: Scene) -> None:
    """Where etcd's client waits for ever (docs/differences.md)."""
    stage.put("/d")
    watch = stage.watch("/d", "waitIndex=1000000000")
    if stage.system.is_etcd:
        assert watch.head.status == 200
        assert watch.is_silent()
    else:
        assert watch.head.status == 400
        assert watch.head.header("X-Etcd-Index") == str(stage.index())


def test_deleting_a_directory_reaches_watchers_of_what_was_in_it(stage: Scene) -> None:
    """Scenario e: all get the event of the deleted directory, but for watchers of paths that did not exist."""
    stage.put("/e/a/b")
    reached = [
        stage.watch("/e"),
        stage.watch("/e", "recursive=true"),
        stage.watch("/e/a"),
        stage.watch("/e/a", "recursive=true"),
        stage.watch("/e/a/b"),
        stage.watch("", "recursive=true"),
        stage.watch("/", "recursive=true", absolute=True),
    ]
    passed_by = [stage.watch("/e/a/zzz"), stage.watch("/eX"), stage.watch("")]
    deleted = stage.delete("/e", "recursive=true")
    assert parsed(deleted.body)["node"]["key"] == f"{stage.path}/e"
    assert [watch.only_event() for watch in reached] == [event_of(deleted)] * len(reached)
    assert are_silent(passed_by)


def test_directories_created_on_the_way_fire_nothing(stage: Scene) -> None:
    """Scenario e2: only the written key has an event."""
    passed_by = [stage.watch("/f"), stage.watch("/f/x")]
    recursive = stage.watch("/f", "recursive=true")
    written = stage.put("/f/x/y")
    assert recursive.only_event() == event_of(written)
    assert are_silent(passed_by)


def test_a_stream_delivers_each_event_of_a_key(stage: Scene) -> None:
    """Scenario f; etcd's bug A.7 a: a stream on the deleted key itself gets the delete twice."""
    exact, recursive, above = (
        stage.watch("/s", "stream=true"),
        stage.watch("/s", "stream=true&recursive=true"),
        stage.watch("", "stream=true&recursive=true"),
    )
    events = [event_of(stage.put("/s")), event_of(stage.put("/s", "value=2")), event_of(stage.delete("/s"))]
    again = events[2:] if stage.system.is_etcd else []
    for watch, expected in ((exact, events + again), (recursive, events + again), (above, events)):
        assert [watch.event() for _ in expected] == expected
    assert are_silent([exact, recursive, above])


def test_a_stream_on_a_directory_gets_its_removal_after_its_children(stage: Scene) -> None:
    """Scenario f, on a directory; the same bug A.7 a for the directory's own removal."""
    stage.put("/sd/first")
    exact, recursive, above = (
        stage.watch("/sd", "stream=true"),
        stage.watch("/sd", "stream=true&recursive=true"),
        stage.watch("", "stream=true&recursive=true"),
    )
    children = [event_of(stage.put("/sd/k")), event_of(stage.delete("/sd/k"))]
    removal = [event_of(stage.delete("/sd", "recursive=true"))]
    again = removal if stage.system.is_etcd else []
    for watch, expected in (
        (exact, removal + again),
        (recursive, children + removal + again),
        (above, children + removal),
    ):
        assert [watch.event() for _ in expected] == expected
    assert are_silent([exact, recursive, above])


def test_a_stream_from_history_goes_on_live(stage: Scene) -> None:
    """Scenario f2; etcd's bug A.7 b: after the first event of the past a stream stays silent for ever."""
    past = [stage.put("/st"), stage.put("/st", "value=2")]
    watch = stage.watch("/st", f"stream=true&waitIndex={past[0].etcd_index}")
    assert headers_of(watch.head)["X-Etcd-Index"] == str(past[1].etcd_index)
    assert watch.event() == event_of(past[0])
    if not stage.system.is_etcd:
        assert watch.event() == event_of(past[1])
    live = stage.put("/st", "value=3")
    if not stage.system.is_etcd:
        assert watch.event() == event_of(live)
    assert watch.is_silent()


def test_wait_with_quorum_is_a_plain_quorum_read(stage: Scene) -> None:
    """Scenario g: answered at once, found or not."""
    stage.put("/g")
    found = stage.get("/g", "wait=true&quorum=true")
    assert (found.status, parsed(found.body)["action"]) == (200, "get")
    assert headers_of(found.head)["Content-Length"] == str(len(found.body))
    missing = stage.get("/none", "wait=true&quorum=true")
    assert (missing.status, parsed(missing.body)["errorCode"]) == (404, 100)


def test_hidden_nodes_fire_only_for_watchers_that_name_them(stage: Scene) -> None:
    """Scenario h: hidden relative to the watched path means not seen, watched from within means seen."""
    passed_by = [stage.watch("", "recursive=true"), stage.watch("/hv", "recursive=true")]
    reached = [stage.watch("/_hid", "recursive=true"), stage.watch("/_hid/x")]
    hidden = stage.put("/_hid/x")
    stage.put("/hv/_k")
    stage.put("/hv/_d/k")
    assert [watch.only_event() for watch in reached] == [event_of(hidden)] * 2
    assert are_silent(passed_by)


def test_hidden_nodes_stay_hidden_in_history(stage: Scene) -> None:
    """Scenario h; etcd's bug A.7 d: a scan of the past shows hidden keys."""
    hidden = stage.put("/_hid/x")
    visible = stage.put("/visible")
    watch = stage.watch("", f"recursive=true&waitIndex={hidden.etcd_index}")
    assert watch.only_event() == event_of(hidden if stage.system.is_etcd else visible)


def test_a_refresh_is_seen_by_no_watcher(stage: Scene) -> None:
    """Scenario i: neither live nor in history, although the index moves."""
    stage.put("/r", "value=1&ttl=100")
    live = stage.watch("/r")
    refreshed = stage.put("/r", "ttl=100&refresh=true&prevExist=true")
    stage.put("/r", "ttl=100&refresh=true")
    past = stage.watch("/r", f"waitIndex={refreshed.etcd_index}")
    assert are_silent([live, past])
    seen = masked_body(event_of(stage.put("/r", "value=9")))[0]
    assert masked_body(live.only_event())[0] == seen
    assert masked_body(past.only_event())[0] == seen


def test_an_expiring_directory_fires_one_event_for_all_below(stage: Scene) -> None:
    """Scenario j: `expire` with the directory, its deadline in prevNode, to watchers of it and of its children."""
    made = stage.put("/x", "ttl=1", query="dir=true")
    since = f"waitIndex={stage.put('/x/c').etcd_index + 1}"  # from history, should the second be over already
    reached = [stage.watch("/x", since), stage.watch("/x/c", since), stage.watch("/x", f"recursive=true&{since}")]
    events = [parsed(watch.only_event()) for watch in reached]
    index = events[0]["node"]["modifiedIndex"]
    before = parsed(made.body)["node"]
    expected = {
        "action": "expire",
        "node": {"key": before["key"], "dir": True, "modifiedIndex": index, "createdIndex": made.etcd_index},
        "prevNode": {key: before[key] for key in before if key != "ttl"},
    }
    for event in events:
        event["prevNode"].pop("ttl", None)
    assert events == [expected] * len(reached)
    assert index > made.etcd_index


def test_an_expiring_key_fires_expire_with_its_last_value(stage: Scene) -> None:
    """Scenario j2: node without value, prevNode with value and deadline."""
    written = stage.put("/xk", "value=1&ttl=1")
    event = parsed(stage.watch("/xk", f"waitIndex={written.etcd_index + 1}").only_event())
    node = event.pop("node")
    event["prevNode"].pop("ttl", None)
    before = {key: value for key, value in parsed(written.body)["node"].items() if key != "ttl"}
    assert event == {"action": "expire", "prevNode": before}
    assert set(node) == {"key", "modifiedIndex", "createdIndex"}
    assert node["createdIndex"] == written.etcd_index


def test_a_deleted_directory_in_history_is_not_a_string_prefix(stage: Scene) -> None:
    """Scenario k; etcd's bug A.7 e: a watch on /prefixother is given the removal of /pre."""
    stage.put("/pre/a")
    deleted = stage.delete("/pre", "recursive=true")
    for path, query in (("/prefixother", ""), ("/prefixtoo", "&recursive=true")):
        watch = stage.watch(path, f"waitIndex={deleted.etcd_index}{query}")
        if stage.system.is_etcd:
            assert watch.only_event() == event_of(deleted)
        else:
            assert watch.is_silent()
            written = stage.put(path)
            assert watch.only_event() == event_of(written)


def test_a_deleted_directory_in_history_reaches_watchers_below_it(stage: Scene) -> None:
    """Scenario k, as it is meant: the removal of /pre is the answer for /pre/a, existing or not."""
    stage.put("/pre/a")
    deleted = stage.delete("/pre", "recursive=true")
    for path in ("/pre/a", "/pre/never/was"):
        assert stage.watch(path, f"waitIndex={deleted.etcd_index}").only_event() == event_of(deleted)


def test_wait_index_without_wait_is_ignored(stage: Scene) -> None:
    """Scenario l: a plain read."""
    stage.put("/l")
    answer = stage.get("/l", "wait=false&waitIndex=1")
    assert (answer.status, parsed(answer.body)["action"]) == (200, "get")


def test_a_watch_on_a_directory_fires_for_itself_only(stage: Scene) -> None:
    """Scenario m: not for a child, but for a change of its own TTL."""
    stage.put("/m", "", query="dir=true")
    watch = stage.watch("/m")
    stage.put("/m/c")
    assert watch.is_silent()
    updated = stage.put("/m", "ttl=300", query="dir=true&prevExist=true")
    assert masked_body(watch.only_event()) == masked_body(event_of(updated))


def test_an_index_out_of_the_window_is_refused(stage: Scene) -> None:
    """Scenario n: 400 with code 401, naming the oldest index kept and the one asked for."""
    first = stage.put("/n")
    last_index = stage.put_many(["/n"] * HISTORY_SIZE, "later")[-1]
    oldest = last_index - HISTORY_SIZE + 1
    answer = stage.get("/n", f"wait=true&waitIndex={first.etcd_index}")
    assert answer.status == 400
    assert answer.etcd_index == last_index
    assert answer.body == (
        b'{"errorCode":401,"message":"The event in requested index is outdated and cleared",'
        b'"cause":"the requested history has been cleared [%d/%d]","index":%d}\n'
        % (oldest, first.etcd_index, last_index)
    )
    event = parsed(stage.watch("/n", f"waitIndex={oldest}").only_event())
    assert event["node"]["modifiedIndex"] == oldest


def test_a_slow_reader_of_a_stream_loses_no_event_unknowingly(stage: Scene) -> None:
    """Scenario o; etcd's bug A.7 c: beyond 100 waiting events it drops the watcher and leaves the connection open.

    kvraft delivers everything, or ends the stream after a part without a gap.
    """
    watch = stage.watch("/o", "stream=true&recursive=true", slow=True)
    written = stage.put_many([f"/o/{number % 7}" for number in range(SLOW_CONSUMER_EVENTS)], SLOW_CONSUMER_VALUE)
    events, ended = watch.drained(len(written), SILENCE_S if stage.system.is_etcd else EVENT_WITHIN_S)
    received = [parsed(event)["node"]["modifiedIndex"] for event in events]
    assert received == written[: len(received)]
    if stage.system.is_etcd:
        assert len(received) < len(written)
        assert not ended
    else:
        assert ended or len(received) == len(written)
