"""Every row of the contract's table A.3, in its order, and the operation that each request means (A.6)."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvraft.api_v2.go_forms import FORM_BYTES_MAX
from kvraft.api_v2.key_requests import KeyRequest, Read, Watch, Write, parse_general, parse_key_request
from kvraft.keyspace.commands import (
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    Set,
    Update,
)
from kvraft.keyspace.errors import ErrorCode, EtcdError

FORM = b"application/x-www-form-urlencoded"
NOW_NS = 1_700_000_000_000_000_000
EXPIRES_NS = NOW_NS + 7_000_000_000


def parse(method: str, query: str = "", body: str = "", content_type: bytes | None = FORM) -> KeyRequest:
    """Parse a request on /k."""
    return parse_key_request(method.encode(), b"/k", query.encode(), content_type, body.encode(), lambda: NOW_NS)


def refusal(method: str, query: str, body: str = "") -> tuple[int, str]:
    """The (errorCode, cause) that a request on /k is refused with."""
    with pytest.raises(EtcdError) as caught:
        parse(method, query, body)
    assert caught.value.index == 0
    return caught.value.code.value, caught.value.cause.decode()


TABLE_A3 = [
    ("x=%zz", 210, 'invalid URL escape "%zz"'),
    ("prevIndex=x", 203, 'invalid value for "prevIndex"'),
    ("waitIndex=x", 203, 'invalid value for "waitIndex"'),
    ("recursive=x", 209, 'invalid value for "recursive"'),
    ("sorted=x", 209, 'invalid value for "sorted"'),
    ("wait=x", 209, 'invalid value for "wait"'),
    ("dir=x", 209, 'invalid value for "dir"'),
    ("quorum=x", 209, 'invalid value for "quorum"'),
    ("stream=x", 209, 'invalid value for "stream"'),
    ("wait=true", 209, '"wait" can only be used with GET requests'),
    ("prevValue=", 201, '"prevValue" cannot be empty'),
    ("noValueOnSuccess=x", 209, 'invalid value for "noValueOnSuccess"'),
    ("ttl=x", 202, 'invalid value for "ttl"'),
    ("prevExist=x", 209, "invalid value for prevExist"),
    ("refresh=x", 209, "invalid value for refresh"),
]
"""(parameters, errorCode, cause) in the order in which etcd checks them; all on PUT."""


@pytest.mark.parametrize(("parameters", "code", "cause"), TABLE_A3)
def test_each_parameter_is_refused_with_its_own_error(parameters: str, code: int, cause: str) -> None:
    """From the query and from the body alike."""
    assert refusal("PUT", parameters) == (code, cause)
    assert refusal("PUT", "", parameters) == (code, cause)


def test_first_failing_check_wins_for_every_pair_of_checks() -> None:
    """The order of the checks is etcd's, whatever the order of the parameters."""
    for at, (parameters, code, cause) in enumerate(TABLE_A3):
        for later, _, _ in TABLE_A3[at + 1 :]:
            if parameters.partition("=")[0] == later.partition("=")[0]:
                continue
            assert refusal("PUT", f"{later}&{parameters}") == (code, cause), (parameters, later)


def test_refresh_takes_no_value_and_needs_a_ttl() -> None:
    """An empty value counts as none; the value is looked at before the TTL."""
    assert refusal("PUT", "", "refresh=true&value=x") == (211, "A value was provided on a refresh")
    assert refusal("PUT", "", "refresh=true") == (212, "No TTL value set")
    assert refusal("PUT", "", "refresh=true&value=&ttl=") == (212, "No TTL value set")
    assert parse("PUT", "", "refresh=true&value=&ttl=7") == Write(
        Set(b"/k", b"", ttl_s=7, expiration_ns=EXPIRES_NS, refresh=True), quiet=False
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_parameters_are_checked_for_methods_that_do_not_use_them(method: str) -> None:
    """`prevExist=x` is refused on every method."""
    assert refusal(method, "prevExist=x") == (209, "invalid value for prevExist")
    assert refusal(method, "ttl=-1") == (202, 'invalid value for "ttl"')


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "0x1", "1_0", "1.0", "18446744073709551616", "9" * 5000, "१"])
def test_index_that_is_no_uint64_is_refused(text: str) -> None:
    """strconv.ParseUint(text, 10, 64)."""
    assert refusal("PUT", f"prevIndex={text.encode().decode('latin-1')}"[:6000])[0] == 203


def test_largest_uint64_is_an_index() -> None:
    """Valkeyrie's locks send it; zeros in front do not count."""
    request = parse("PUT", "prevIndex=00000000000000000000000018446744073709551615", "value=v")
    assert request == Write(CompareAndSwap(b"/k", b"v", prev_index=2**64 - 1), quiet=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [(text, True) for text in ("1", "t", "T", "TRUE", "true", "True")]
    + [(text, False) for text in ("0", "f", "F", "FALSE", "false", "False")],
)
def test_bool_is_what_go_takes_for_one(text: str, value: bool) -> None:
    """strconv.ParseBool."""
    assert parse("GET", f"recursive={text}") == Read(b"/k", recursive=value, sort=False, quorum=False)


@pytest.mark.parametrize("text", ["", "yes", "tRUE", "2", "on"])
def test_empty_and_other_bools_are_refused(text: str) -> None:
    """A bare parameter is an empty one."""
    assert refusal("GET", f"recursive={text}") == (209, 'invalid value for "recursive"')
    assert refusal("GET", "recursive") == (209, 'invalid value for "recursive"')


def test_ttl_beyond_what_nanoseconds_hold_is_refused_for_writes_only() -> None:
    """Go would wrap around (docs/differences.md); a read parses a TTL and forgets it."""
    assert refusal("PUT", "", "ttl=18446744073709551615") == (202, 'invalid value for "ttl"')
    assert refusal("POST", "", "ttl=9000000000") == (202, 'invalid value for "ttl"')
    assert isinstance(parse("GET", "ttl=18446744073709551615"), Read)
    assert isinstance(parse("DELETE", "ttl=18446744073709551615"), Write)


@pytest.mark.parametrize(
    ("method", "query", "body", "command"),
    [
        ("PUT", "", "value=v", Set(b"/k", b"v")),
        ("PUT", "", "", Set(b"/k")),
        ("PUT", "dir=true", "ttl=7", Set(b"/k", directory=True, ttl_s=7, expiration_ns=EXPIRES_NS)),
        ("PUT", "", "value=v&ttl=", Set(b"/k", b"v")),
        ("PUT", "", "value=v&ttl=0", Set(b"/k", b"v", ttl_s=0, expiration_ns=NOW_NS)),
        ("PUT", "prevIndex=0", "value=v", Set(b"/k", b"v")),
        ("PUT", "prevExist=false&prevIndex=3&prevValue=x", "value=v", Create(b"/k", b"v")),
        ("PUT", "prevExist=true", "value=v", Update(b"/k", b"v")),
        ("PUT", "prevExist=true&dir=true", "", Update(b"/k")),
        ("PUT", "prevExist=true&prevIndex=0", "value=v", Update(b"/k", b"v")),
        ("PUT", "prevExist=true&prevIndex=3", "value=v", CompareAndSwap(b"/k", b"v", prev_index=3)),
        ("PUT", "prevValue=x", "value=v", CompareAndSwap(b"/k", b"v", prev_value=b"x")),
        ("POST", "", "value=v", CreateInOrder(b"/k", b"v")),
        ("POST", "prevExist=false&prevIndex=3&dir=true", "", CreateInOrder(b"/k", directory=True)),
        ("DELETE", "", "", Delete(b"/k")),
        ("DELETE", "dir=true&recursive=true", "", Delete(b"/k", directory=True, recursive=True)),
        ("DELETE", "prevIndex=3&recursive=true", "", CompareAndDelete(b"/k", prev_index=3)),
        ("DELETE", "prevValue=x", "", CompareAndDelete(b"/k", prev_value=b"x")),
        ("DELETE", "", "prevValue=x", Delete(b"/k")),
    ],
)
def test_write_means_the_operation_that_etcd_chooses(method: str, query: str, body: str, command: object) -> None:
    """Table A.6."""
    recursive = "recursive=true" in query
    assert parse(method, query, body) == Write(command, quiet=False, recursive=recursive)  # type: ignore[arg-type]  # the table is untyped


@pytest.mark.parametrize(
    ("method", "query", "request_meant"),
    [
        ("GET", "", Read(b"/k", recursive=False, sort=False, quorum=False)),
        ("GET", "quorum=true&sorted=1", Read(b"/k", recursive=False, sort=True, quorum=True)),
        ("GET", "consistent=true", Read(b"/k", recursive=False, sort=False, quorum=False)),
        ("HEAD", "quorum=true&recursive=true", Read(b"/k", recursive=True, sort=False, quorum=False)),
        ("GET", "wait=true", Watch(b"/k", recursive=False, stream=False, wait_index=0)),
        (
            "GET",
            "wait=true&recursive=true&stream=true&waitIndex=9",
            Watch(b"/k", recursive=True, stream=True, wait_index=9),
        ),
        ("GET", "wait=true&quorum=true", Read(b"/k", recursive=False, sort=False, quorum=True)),
        ("GET", "waitIndex=9&stream=true", Read(b"/k", recursive=False, sort=False, quorum=False)),
    ],
)
def test_read_and_watch(method: str, query: str, request_meant: KeyRequest) -> None:
    """A quorum read knows no waiting; a HEAD is never a quorum read."""
    assert parse(method, query) == request_meant


def test_quiet_write_is_asked_for_by_no_value_on_success() -> None:
    """NoValueOnSuccess belongs to the answer, not to the command."""
    assert parse("PUT", "noValueOnSuccess=true", "value=v") == Write(Set(b"/k", b"v"), quiet=True)


def test_refused_get_query_is_refused_again_when_it_comes_from_memory() -> None:
    """Parsed GET queries are remembered, their errors too."""
    first, second = (refusal("GET", "sorted=maybe") for _ in range(2))
    assert first == second == (209, 'invalid value for "sorted"')


def test_body_over_the_limit_is_refused_on_the_short_cut_too() -> None:
    """A plain `value=...` of 10 MiB and one byte."""
    body = b"value=".ljust(FORM_BYTES_MAX + 1, b"x")
    with pytest.raises(EtcdError, match="INVALID_FORM"):
        parse_key_request(b"PUT", b"/k", b"", FORM, body, lambda: NOW_NS)


NOT_UTF8: Final = (b"\xff", b"a\x80", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f\x98")
"""A byte of no form, a tail alone, a head alone, overlong, a surrogate, beyond the last character, cut off."""


@pytest.mark.parametrize("name", NOT_UTF8)
@pytest.mark.parametrize("path", [b"/%b", b"/%b/below"])
@pytest.mark.parametrize(
    ("method", "body", "is_refused"),
    [
        (b"PUT", b"value=1", True),
        (b"PUT", b"dir=true", True),
        (b"PUT", b"ttl=5&value=%41", True),
        (b"PUT", b"prevExist=false", True),
        (b"PUT", b"prevExist=false&prevIndex=4", True),
        (b"POST", b"value=1", True),
        (b"POST", b"prevExist=true&prevValue=1", True),
        (b"PUT", b"prevExist=true&value=1", False),
        (b"PUT", b"prevIndex=4&value=1", False),
        (b"PUT", b"prevValue=4&value=1", False),
        (b"DELETE", b"", False),
        (b"GET", b"", False),
        (b"HEAD", b"", False),
    ],
)
def test_key_that_is_not_utf8_is_not_created(
    method: bytes, body: bytes, is_refused: bool, path: bytes, name: bytes
) -> None:
    """It could never be named from a listing. What exists can be read, updated and deleted."""
    path %= name
    if is_refused:
        with pytest.raises(EtcdError) as refused:
            parse_key_request(method, path, b"", FORM, body, lambda: NOW_NS)
        assert (refused.value.code, refused.value.cause) == (ErrorCode.INVALID_FIELD, b"the key is not UTF-8")
    else:
        parse_key_request(method, path, b"", FORM, body, lambda: NOW_NS)


@pytest.mark.parametrize("name", ["\0", "é", "\ufffd", "\u2028", "\U0010ffff", "a b"])
def test_every_character_may_be_in_a_key(name: str) -> None:
    """Only what is no character at all is refused."""
    request = parse_key_request(b"PUT", f"/{name}".encode(), b"", FORM, b"value=1", lambda: NOW_NS)
    assert request == Write(Set(f"/{name}".encode(), b"1"), quiet=False)


NAMES = st.sampled_from(
    [
        b"value", b"ttl", b"dir", b"prevValue", b"prevIndex", b"prevExist", b"refresh", b"recursive", b"sorted",
        b"wait", b"waitIndex", b"stream", b"quorum", b"noValueOnSuccess", b"x",
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"", b"true", b"false", b"1", b"0", b"7", b"x", b"a+b", b"%41", b"%zz", b"%", b"a;b", b"\xff"]
)
PAIRS = st.lists(st.tuples(NAMES, VALUES).map(b"=".join), max_size=4).map(b"&".join)
PLAIN = st.binary(max_size=30).map(lambda value: b"value=" + value)
METHODS = st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST", b"DELETE"])
CONTENT_TYPES = st.sampled_from([FORM, None, b"", FORM + b"; a=b", b"text/plain", b"a/b/c"])


def outcome_of(parser: object, *arguments: object) -> object:
    """What a parser says, an error as its parts."""
    assert callable(parser)
    try:
        return parser(*arguments, lambda: NOW_NS)
    except EtcdError as error:
        return error.code, error.cause, error.index


@given(
    method=METHODS,
    path=st.sampled_from([b"/k", b"/\xff", "/é".encode()]),
    query=PAIRS,
    content_type=CONTENT_TYPES,
    body=PAIRS | PLAIN | st.binary(max_size=20),
)
def test_short_cuts_give_what_the_general_way_gives(
    method: bytes, path: bytes, query: bytes, content_type: bytes | None, body: bytes
) -> None:
    """Property: no shape of request is read differently on the fast way."""
    request = (method, path, query, content_type, body)
    assert outcome_of(parse_key_request, *request) == outcome_of(parse_general, *request)


@given(raw=st.binary(max_size=60))
def test_any_bytes_as_query_give_a_request_or_an_etcd_error(raw: bytes) -> None:
    """Property: nothing but EtcdError escapes the parser."""
    outcome_of(parse_key_request, b"PUT", b"/k", raw, FORM, raw)
    outcome_of(parse_key_request, b"GET", b"/k", raw, None, b"")
