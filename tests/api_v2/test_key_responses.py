"""Events and errors as JSON, to the byte (contract A.1, A.2, A.4)."""

import pytest

from kvraft.api_v2.go_json import quote, render
from kvraft.api_v2.key_responses import error_answer, event_json, written_answer
from kvraft.keyspace.errors import MESSAGES, ErrorCode, EtcdError
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.records import Written


def node(
    value_json: bytes | None = b'"v"',
    *,
    path: bytes = b"/k",
    directory: bool = False,
    ttl_s: int = 0,
    expiration_ns: int = 0,
    modified_index: int = 5,
    created_index: int = 4,
) -> NodeView:
    """A node as an event shows it."""
    return NodeView(path, directory, value_json, ttl_s, expiration_ns, modified_index, created_index)


@pytest.mark.parametrize(
    ("view", "json"),
    [
        (node(), b'{"key":"/k","value":"v","modifiedIndex":5,"createdIndex":4}'),
        (node(b'""'), b'{"key":"/k","value":"","modifiedIndex":5,"createdIndex":4}'),
        (node(None), b'{"key":"/k","modifiedIndex":5,"createdIndex":4}'),
        (node(None, directory=True), b'{"key":"/k","dir":true,"modifiedIndex":5,"createdIndex":4}'),
        (
            node(ttl_s=100, expiration_ns=1_795_220_480_992_253_050),
            b'{"key":"/k","value":"v","expiration":"2026-11-21T00:21:20.99225305Z","ttl":100,'
            b'"modifiedIndex":5,"createdIndex":4}',
        ),
        (
            node(expiration_ns=1_795_220_480_000_000_000),
            b'{"key":"/k","value":"v","expiration":"2026-11-21T00:21:20Z","modifiedIndex":5,"createdIndex":4}',
        ),
        (
            node(ttl_s=-1, expiration_ns=1_795_220_480_500_000_000),
            b'{"key":"/k","value":"v","expiration":"2026-11-21T00:21:20.5Z","ttl":-1,'
            b'"modifiedIndex":5,"createdIndex":4}',
        ),
        (
            node(path=b'/<\xff">'),
            b'{"key":"/\\u003c\\ufffd\\"\\u003e","value":"v","modifiedIndex":5,"createdIndex":4}',
        ),
    ],
)
def test_node_has_etcds_fields_in_etcds_order(view: NodeView, json: bytes) -> None:
    """What is empty is left out, except the value of a file."""
    assert event_json(Event(Action.SET, view, None, refresh=False)) == b'{"action":"set","node":' + json + b"}\n"


def test_previous_node_follows_the_node() -> None:
    """Deleted nodes have no value, their previous ones do."""
    event = Event(Action.COMPARE_AND_DELETE, node(None), node(modified_index=4), refresh=False)
    assert event_json(event) == (
        b'{"action":"compareAndDelete","node":{"key":"/k","modifiedIndex":5,"createdIndex":4},'
        b'"prevNode":{"key":"/k","value":"v","modifiedIndex":4,"createdIndex":4}}\n'
    )


@pytest.mark.parametrize(
    ("action", "with_previous", "status"),
    [
        (Action.SET, False, 201),
        (Action.SET, True, 200),
        (Action.CREATE, False, 201),
        (Action.UPDATE, True, 200),
        (Action.COMPARE_AND_SWAP, True, 200),
        (Action.DELETE, True, 200),
        (Action.COMPARE_AND_DELETE, True, 200),
    ],
)
def test_only_what_creates_answers_201(action: Action, with_previous: bool, status: int) -> None:
    """A set without a previous node has created one."""
    event = Event(action, node(), node() if with_previous else None, refresh=False)
    answer = written_answer(Written(event, 9, 7, 2), 0xAB, quiet=False)
    assert answer.status == status
    assert answer.headers == (
        b"Content-Type: application/json\r\nX-Etcd-Cluster-Id: ab\r\n"
        b"X-Etcd-Index: 5\r\nX-Raft-Index: 7\r\nX-Raft-Term: 2\r\n"
    )


TABLE_A4 = {
    100: ("Key not found", 404),
    101: ("Compare failed", 412),
    102: ("Not a file", 403),
    104: ("Not a directory", 400),
    105: ("Key already exists", 412),
    107: ("Root is read only", 400),
    108: ("Directory not empty", 403),
    110: ("The request requires user authentication", 401),
    201: ("PrevValue is Required in POST form", 400),
    202: ("The given TTL in POST form is not a number", 400),
    203: ("The given index in POST form is not a number", 400),
    209: ("Invalid field", 400),
    210: ("Invalid POST form", 400),
    211: ("Value provided on refresh", 400),
    212: ("A TTL must be provided on refresh", 400),
    300: ("Raft Internal Error", 500),
    301: ("During Leader Election", 500),
    400: ("watcher is cleared due to etcd recovery", 400),
    401: ("The event in requested index is outdated and cleared", 400),
}


def test_every_error_has_its_message_and_status() -> None:
    """The whole of table A.4, with a cause and without."""
    assert {code.value for code in MESSAGES} == set(TABLE_A4)
    for code, (message, status) in TABLE_A4.items():
        answer = error_answer(EtcdError(ErrorCode(code), b"/a&b", 17), 0xAB)
        assert answer.status == status
        body = f'{{"errorCode":{code},"message":"{message}","cause":"/a\\u0026b","index":17}}\n'
        assert answer.body == body.encode()
        assert answer.headers == b"Content-Type: application/json\r\nX-Etcd-Cluster-Id: ab\r\nX-Etcd-Index: 17\r\n"
        bare = error_answer(EtcdError(ErrorCode(code)), 0xAB)
        assert bare.body == f'{{"errorCode":{code},"message":"{message}","index":0}}\n'.encode()


def test_plain_data_is_compact_json_as_go_writes_it() -> None:
    """Fields in their order; numbers without a needless fraction or exponent."""
    value = {"a": [1, True, None, "<"], "b": {"c": 0.5, "d": 3.0, "e": 1e21, "f": 0.00001, "g": 1e-7}, "h": b"\xff"}
    assert render(value) == (
        b'{"a":[1,true,null,"\\u003c"],"b":{"c":0.5,"d":3,"e":1e+21,"f":0.00001,"g":1e-7},"h":"\\ufffd"}'
    )
    assert render(9223372036854775808.0) == b"9223372036854776000"
    assert [render(number) for number in (1e15, 12.0, -1e20, 1e21)] == [
        b"1000000000000000",
        b"12",
        b"-100000000000000000000",
        b"1e+21",
    ]
    with pytest.raises(TypeError):
        render(object())


def test_each_byte_that_is_not_utf8_is_one_replacement() -> None:
    """Go replaces byte by byte, also within a broken sequence."""
    assert quote(b"\xe2\x82") == b'"\\ufffd\\ufffd"'
    assert quote(b"\xed\xa0\x80") == b'"\\ufffd\\ufffd\\ufffd"'
    assert quote("\u2028\x7fé".encode()) == '"\\u2028\x7fé"'.encode()
