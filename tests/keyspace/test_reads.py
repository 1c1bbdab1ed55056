"""GET: fields, omissions, order and hidden nodes (contract A.1, A.5), and listings that writes overtake."""

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kvraft.keyspace.commands import Create, Delete, Set, Sync, Update
from kvraft.keyspace.errors import ErrorCode
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.listing import LARGE_VALUE_BYTES, SORT_RUN, Listing, format_expiration
from tests.keyspace.helpers import CLOCK_MS, acknowledged, done, not_found, read, read_bytes

EXPIRATION_NS = 1_795_220_480_992_253_050


def test_empty_root_shows_nothing_but_that_it_is_a_directory() -> None:
    """No key, no indices, no nodes."""
    assert read_bytes(Keyspace(), b"/") == b'{"dir":true}'


def test_file_in_go_s_field_order() -> None:
    """With and without TTL."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"<1>"))
    assert read_bytes(keyspace, b"/a") == b'{"key":"/a","value":"\\u003c1\\u003e","modifiedIndex":1,"createdIndex":1}'
    done(keyspace, Set(b"/a", b"", ttl_s=7, expiration_ns=EXPIRATION_NS))
    assert read_bytes(keyspace, b"/a", clock_ms=CLOCK_MS + 1) == (
        b'{"key":"/a","value":"","expiration":"2026-11-21T00:21:20.99225305Z","ttl":7,'
        b'"modifiedIndex":2,"createdIndex":2}'
    )


@pytest.mark.parametrize(
    ("passed_ms", "ttl"), [(0, 2), (1, 2), (999, 2), (1000, 1), (1999, 1), (2000, 0), (2999, 0), (3000, -1)]
)
def test_ttl_is_rounded_up_and_left_out_at_zero(passed_ms: int, ttl: int) -> None:
    """Overdue by less than a second it is 0 and not shown, later it is negative, as etcd computes it."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=2, expiration_ns=1))
    assert read(keyspace, b"/a", clock_ms=CLOCK_MS + passed_ms).get("ttl", 0) == ttl


@pytest.mark.parametrize(
    ("expiration_ns", "shown"),
    [
        (0, b"1970-01-01T00:00:00Z"),
        (1_000_000_000, b"1970-01-01T00:00:01Z"),
        (1_100_000_000, b"1970-01-01T00:00:01.1Z"),
        (1_000_000_001, b"1970-01-01T00:00:01.000000001Z"),
        (EXPIRATION_NS, b"2026-11-21T00:21:20.99225305Z"),
        ((1 << 64) - 1, b"2554-07-21T23:34:33.709551615Z"),
    ],
)
def test_expiration_is_rfc3339_with_trailing_zeros_trimmed(expiration_ns: int, shown: bytes) -> None:
    """Go's RFC3339Nano, in UTC."""
    assert format_expiration(expiration_ns) == shown


def test_directory_lists_one_level_and_recursive_all() -> None:
    """Child directories carry no nodes in a plain listing; empty ones never do."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/d/b/c", b"1"))
    done(keyspace, Set(b"/d/a", b"2"))
    done(keyspace, Set(b"/d/e", directory=True, ttl_s=9, expiration_ns=EXPIRATION_NS))
    c = b'{"key":"/d/b/c","value":"1","modifiedIndex":1,"createdIndex":1}'
    a = b'{"key":"/d/a","value":"2","modifiedIndex":2,"createdIndex":2}'
    e = (
        b'{"key":"/d/e","dir":true,"expiration":"2026-11-21T00:21:20.99225305Z","ttl":9,'
        b'"modifiedIndex":3,"createdIndex":3}'
    )
    plain_b = b'{"key":"/d/b","dir":true,"modifiedIndex":1,"createdIndex":1}'
    full_b = b'{"key":"/d/b","dir":true,"nodes":[%b],"modifiedIndex":1,"createdIndex":1}' % c
    frame = b'{"key":"/d","dir":true,"nodes":[%b],"modifiedIndex":1,"createdIndex":1}'
    assert read_bytes(keyspace, b"/d") == frame % b",".join((a, plain_b, e))
    assert read_bytes(keyspace, b"/d", recursive=True) == frame % b",".join((a, full_b, e))
    assert read_bytes(keyspace, b"/d", in_order=False) == frame % b",".join((plain_b, a, e))
    assert read_bytes(keyspace, b"/", recursive=True) == b'{"dir":true,"nodes":[%b]}' % (
        frame % b",".join((a, full_b, e))
    )


def test_hidden_nodes_are_listed_nowhere_but_answer_when_asked() -> None:
    """At every level; a hidden directory asked for lists its children."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/_h/x", b"1"))
    done(keyspace, Set(b"/d/_k", b"1"))
    done(keyspace, Set(b"/d/sub/_h/y", b"1"))
    assert read(keyspace, b"/", recursive=True) == {
        "dir": True,
        "nodes": [
            {
                "key": "/d",
                "dir": True,
                "nodes": [{"key": "/d/sub", "dir": True, "modifiedIndex": 3, "createdIndex": 3}],
                "modifiedIndex": 2,
                "createdIndex": 2,
            }
        ],
    }
    assert read(keyspace, b"/_h")["nodes"] == [{"key": "/_h/x", "value": "1", "modifiedIndex": 1, "createdIndex": 1}]
    assert read(keyspace, b"/d/_k")["value"] == "1"


def test_keys_are_escaped_component_by_component() -> None:
    """In the asked path and in listings."""
    keyspace = Keyspace()
    done(keyspace, Set(b'/<a>/\xff"/k\n', b"1"))
    key = b'/\\u003ca\\u003e/\\ufffd\\"/k\\n'
    assert key in read_bytes(keyspace, b"/", recursive=True)
    assert key in read_bytes(keyspace, b'/<a>/\xff"/k\n')
    assert key in read_bytes(keyspace, b'/<a>/\xff"')


def test_missing_keys_name_the_first_missing_component() -> None:
    """And a file in the way names itself."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/f", b"1"))
    assert not_found(keyspace, b"/a/b/c") == (ErrorCode.KEY_NOT_FOUND, b"/a", 1)
    assert not_found(keyspace, b"/f/b/c") == (ErrorCode.NOT_DIR, b"/f", 1)
    assert (keyspace.stats.gets_success, keyspace.stats.gets_fail) == (0, 2)


def _large(seed: int) -> Keyspace:
    """Three thousand nodes on several levels, some with TTL, some hidden."""
    rng = random.Random(seed)
    keyspace = Keyspace()
    for number in range(3000):
        path = b"/top/%02d/%s%d" % (rng.randrange(40), b"_" if rng.random() < 0.1 else b"", number)
        ttl_s = rng.choice((-1, -1, 50))
        done(keyspace, Create(path, b"v" * rng.randrange(9), rng.random() < 0.1, ttl_s, 7 if ttl_s > 0 else 0))
    return keyspace


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("in_order", [True, False])
def test_a_listing_shows_the_state_of_its_start_whatever_is_written_meanwhile(seed: int, in_order: bool) -> None:
    """Sets, removals, expiries, new TTLs and recreated directories between the fragments change nothing."""
    keyspace = _large(seed)
    rng = random.Random(seed)
    path = rng.choice((b"/", b"/top"))
    expected = read_bytes(keyspace, path, recursive=True, in_order=in_order)
    listing = keyspace.get(path, recursive=True, in_order=in_order, clock_ms=CLOCK_MS)
    assert isinstance(listing, Listing)
    fragments = []
    clock_ms = CLOCK_MS
    for fragment in listing:
        fragments.append(fragment)
        for _ in range(60):
            directory = b"/top/%02d" % rng.randrange(40)
            clock_ms += rng.randrange(200)
            keyspace.apply(
                rng.choice(
                    (
                        Set(directory + b"/new%d" % rng.randrange(9), b"n"),
                        Update(directory, ttl_s=1000, expiration_ns=5),
                        Update(directory),
                        Delete(directory, recursive=True),
                        Delete(b"/top/%02d/%d" % (rng.randrange(40), rng.randrange(3000)), recursive=True),
                        Set(b"/top/%02d/%d" % (rng.randrange(40), rng.randrange(3000)), b"changed"),
                        Sync(),
                    )
                ),
                clock_ms,
            )
        if len(fragments) == 1:
            keyspace.apply(Delete(b"/top", recursive=rng.random() < 0.5), clock_ms)
    assert len(fragments) > 2
    assert b"".join(fragments) == expected
    assert read_bytes(keyspace, b"/", recursive=True, in_order=in_order) != expected


def test_a_closed_listing_is_over_and_kept_by_nobody() -> None:
    """Its keyspace forgets it with the next change."""
    keyspace = _large(1)
    listing = keyspace.get(b"/", recursive=True, in_order=True, clock_ms=CLOCK_MS)
    assert isinstance(listing, Listing)
    next(listing)
    listing.close()
    assert list(listing) == []
    done(keyspace, Set(b"/top/new", b"1"))
    assert keyspace._tree._listings == []


def test_very_many_children_are_sorted_in_runs() -> None:
    """The order is by bytes, across the runs."""
    keyspace = Keyspace()
    names = [b"%x" % (number * 7919 % 1_000_003) for number in range(SORT_RUN + 500)]
    for name in names:
        keyspace.apply(Set(b"/d/" + name, b""), CLOCK_MS)
    nodes = read(keyspace, b"/d")["nodes"]
    assert isinstance(nodes, list)
    assert [node["key"].encode() for node in nodes] == [b"/d/" + name for name in sorted(names)]


def test_ten_thousand_keys_of_a_kibibyte_are_rendered_fast_and_in_short_slices() -> None:
    """Some 10 to 20 ms of CPU on a quiet machine, no fragment above a few; the bounds leave room for a busy one."""
    keyspace = Keyspace()
    for number in range(10_000):
        keyspace.apply(Set(b"/reg/key%05d" % (number * 7919 % 10_007), b"v" * 1024), CLOCK_MS)
    best_s = longest_s = 60.0
    for _ in range(5):
        slices = []
        started = at = time.process_time()
        listing = keyspace.get(b"/reg", recursive=True, in_order=True, clock_ms=CLOCK_MS)
        assert isinstance(listing, Listing)
        size = 0
        for fragment in listing:
            size += len(fragment)
            slices.append(time.process_time() - at)
            at = time.process_time()
        best_s = min(best_s, time.process_time() - started)
        longest_s = min(longest_s, max(slices))
    assert size > 10_000 * 1024
    assert best_s < 0.1
    assert longest_s < 0.02


def test_expired_but_not_synced_nodes_are_still_there() -> None:
    """Only a Sync removes; until then a GET shows a ttl that has run out."""
    keyspace = Keyspace()
    done(keyspace, Set(b"/a", b"1", ttl_s=1, expiration_ns=1))
    assert read(keyspace, b"/a", clock_ms=CLOCK_MS + 5000)["ttl"] == -4
    assert acknowledged(keyspace, Sync(), CLOCK_MS + 5000) == 1
    assert not_found(keyspace, b"/a") == (ErrorCode.KEY_NOT_FOUND, b"/a", 2)


def test_a_listing_is_valid_json_at_any_depth_of_directories() -> None:
    """Fragments are cut anywhere, the whole is one object."""
    keyspace = _large(3)
    whole = json.loads(read_bytes(keyspace, b"/", recursive=True))
    assert len(whole["nodes"][0]["nodes"]) == 40


@pytest.mark.parametrize("seed", range(8))
def test_values_of_every_size_are_listed_with_their_neighbours(seed: int) -> None:
    """Whichever of them are large, and wherever they stand: the JSON is whole, and has all keys and values in order.

    A large value is a fragment of its own, which is where a listing once lost the end of its directory.
    """
    rng = random.Random(seed)
    keyspace = Keyspace()
    expected: dict[bytes, bytes] = {}
    for number in range(12):
        directory = rng.choice((b"", b"/a", b"/a/b", b"/c"))
        key = b"%b/k%02d" % (directory, number)
        length = rng.choice((0, 10, LARGE_VALUE_BYTES - 2, LARGE_VALUE_BYTES - 1, 2 * LARGE_VALUE_BYTES, 300_000))
        expected[key] = b"%d" % (number % 10) * length
        done(keyspace, Set(key, expected[key], ttl_s=rng.choice((-1, 100))))

    def files(node: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        for child in node.get("nodes", ()):
            if "dir" in child:
                yield from files(child)
            else:
                yield child["key"].encode(), child["value"].encode()

    for in_order in (False, True):
        listed = list(files(json.loads(read_bytes(keyspace, b"/", recursive=True, in_order=in_order))))
        assert dict(listed) == expected
        assert len(listed) == len(expected)
