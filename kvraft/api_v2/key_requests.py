"""A request on /v2/keys becomes a command, a read or a watch here, and nowhere else. Pure: no HTTP library, no clock.

The general way follows etcd's parseKeyRequest (etcd v3.4.23 etcdserver/api/v2http/client.go) check by check; the first
failure wins, and no check looks at the method unless it says so. A few shapes that make nearly all traffic (a GET
without parameters, a PUT of one plain value) take a short cut which must give exactly the same result; the property
tests hold the two together.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, final

from kvraft.api_v2.go_forms import FORM_BYTES_MAX, FORM_MEDIA_TYPE, Form, parse_form
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
from kvraft.keyspace.errors import ErrorCode, EtcdError

NS_PER_S: Final = 1_000_000_000
_UINT64_MAX: Final = 2**64 - 1
_INT64_MAX: Final = 2**63 - 1
_TRUE: Final = frozenset((b"1", b"t", b"T", b"TRUE", b"true", b"True"))
_FALSE: Final = frozenset((b"0", b"f", b"F", b"FALSE", b"false", b"False"))
_BODY_METHODS: Final = frozenset((b"PUT", b"POST"))
_FORM_CONTENT_TYPE: Final = FORM_MEDIA_TYPE.encode()


@final
@dataclass(slots=True)
class Read:
    """GET or HEAD of a node."""

    path: bytes
    recursive: bool
    sort: bool
    """Every level by its full key, bytewise."""
    quorum: bool
    """Linearizable; a HEAD never is."""


@final
@dataclass(slots=True)
class Watch:
    """GET with wait=true."""

    path: bytes
    recursive: bool
    stream: bool
    """Endless; otherwise one event ends it."""
    wait_index: int
    """The first etcd_index of interest; 0: whatever comes next."""


@final
@dataclass(slots=True)
class Write:
    """PUT, POST or DELETE."""

    command: Command
    quiet: bool
    """noValueOnSuccess: a success answers the action alone."""
    recursive: bool = False
    """Whether it was said, also where it changes nothing: who says it needs the right for all that is below."""


KeyRequest = Read | Watch | Write


def parse_key_request(
    method: bytes,
    path: bytes,
    query: bytes,
    content_type: bytes | None,
    body: bytes,
    wall_ns: Callable[[], int],
) -> KeyRequest:
    """What a request on /v2/keys asks for.

    Args:
        method: GET, HEAD, PUT, POST or DELETE.
        path: The key: decoded, cleaned, rooted, without a trailing slash.
        query: The raw query.
        content_type: The first Content-Type header, None without one.
        body: The whole body; of a longer one its first FORM_BYTES_MAX + 1 bytes.
        wall_ns: Unix nanoseconds now; asked only when there is a TTL, whose `expiration` counts from it.

    Raises:
        EtcdError: The first parameter that etcd would complain about; its index is 0.
    """
    if method in _BODY_METHODS:
        if not query and content_type == _FORM_CONTENT_TYPE and len(body) <= FORM_BYTES_MAX and path.isascii():
            command = _plain_write(method, path, body)
            if command is not None:
                return Write(command, quiet=False)
    elif method == b"GET":
        if not query:
            return Read(path, recursive=False, sort=False, quorum=False)
        if len(query) <= _CACHED_QUERY_BYTES_MAX:
            options = _parse_get_query(query)
            return options.request(path)
    return parse_general(method, path, query, content_type, body, wall_ns)


def _plain_write(method: bytes, path: bytes, body: bytes) -> Command | None:
    """The command of `value=<text>` alone, or None when the body is anything else."""
    if body[:6] != b"value=" or b"&" in body or b"%" in body or b";" in body:
        return None
    value = body[6:]
    if b"+" in value:
        value = value.replace(b"+", b" ")
    return Set(path, value) if method == b"PUT" else CreateInOrder(path, value)


def parse_general(
    method: bytes,
    path: bytes,
    query: bytes,
    content_type: bytes | None,
    body: bytes,
    wall_ns: Callable[[], int],
) -> KeyRequest:
    """`parse_key_request` without short cuts."""
    form = parse_form(query, with_body=method in _BODY_METHODS, content_type=content_type, body=body)
    return _build(method, path, _check(method, form), wall_ns)


@final
@dataclass(slots=True)
class _Parameters:
    """Every parameter of /v2/keys, parsed."""

    value: bytes
    prev_value: bytes | None
    prev_index: int
    prev_exist: bool | None
    wait_index: int
    recursive: bool
    sort: bool
    wait: bool
    directory: bool
    quorum: bool
    stream: bool
    quiet: bool
    ttl_s: int
    """NO_TTL when not given or empty."""
    refresh: bool


def _check(method: bytes, form: Form) -> _Parameters:
    """Parse every parameter in etcd's order; the first failure is the answer."""
    prev_index = _uint64(form, b"prevIndex", ErrorCode.INDEX_NAN)
    wait_index = _uint64(form, b"waitIndex", ErrorCode.INDEX_NAN)
    recursive = _bool(form, b"recursive")
    sort = _bool(form, b"sorted")
    wait = _bool(form, b"wait")
    directory = _bool(form, b"dir")
    quorum = _bool(form, b"quorum")
    stream = _bool(form, b"stream")
    if wait and method != b"GET":
        raise EtcdError(ErrorCode.INVALID_FIELD, b'"wait" can only be used with GET requests')
    prev_value = form.get(b"prevValue")
    if prev_value == b"":
        raise EtcdError(ErrorCode.PREV_VALUE_REQUIRED, b'"prevValue" cannot be empty')
    quiet = _bool(form, b"noValueOnSuccess")
    ttl_s = _uint64(form, b"ttl", ErrorCode.TTL_NAN) if form.get(b"ttl") else NO_TTL
    prev_exist = _bool(form, b"prevExist", quoted=False) if b"prevExist" in form else None
    refresh = _bool(form, b"refresh", quoted=False)
    value = form.get(b"value", b"")
    if refresh and value:
        raise EtcdError(ErrorCode.REFRESH_VALUE, b"A value was provided on a refresh")
    if refresh and ttl_s == NO_TTL:
        raise EtcdError(ErrorCode.REFRESH_TTL_REQUIRED, b"No TTL value set")
    return _Parameters(
        value=value,
        prev_value=prev_value,
        prev_index=prev_index,
        prev_exist=prev_exist,
        wait_index=wait_index,
        recursive=recursive,
        sort=sort,
        wait=wait,
        directory=directory,
        quorum=quorum,
        stream=stream,
        quiet=quiet,
        ttl_s=ttl_s,
        refresh=refresh,
    )


def _uint64(form: Form, name: bytes, code: ErrorCode) -> int:
    """strconv.ParseUint(text, 10, 64), 0 when the parameter is absent."""
    text = form.get(name)
    if text is None:
        return 0
    # bytes.isdigit is ASCII only and False for empty; a longer run of digits than fits is cut off before int() works.
    if text.isdigit():
        digits = text.lstrip(b"0")
        if len(digits) <= 20:
            number = int(digits or b"0")
            if number <= _UINT64_MAX:
                return number
    raise EtcdError(code, b'invalid value for "%b"' % name)


def _bool(form: Form, name: bytes, *, quoted: bool = True) -> bool:
    """strconv.ParseBool, False when the parameter is absent. etcd quotes the older parameters' names only."""
    text = form.get(name)
    if text is None or text in _FALSE:
        return False
    if text in _TRUE:
        return True
    raise EtcdError(ErrorCode.INVALID_FIELD, b"invalid value for " + (b'"%b"' % name if quoted else name))


def _build(method: bytes, path: bytes, given: _Parameters, wall_ns: Callable[[], int]) -> KeyRequest:
    """The request that checked parameters make (etcdserver/apply_v2.go and v2_server.go choose the operation)."""
    if method == b"GET":
        # A quorum read goes through the log in etcd, which knows no waiting: wait is ignored then.
        if given.wait and not given.quorum:
            return Watch(path, recursive=given.recursive, stream=given.stream, wait_index=given.wait_index)
        return Read(path, recursive=given.recursive, sort=given.sort, quorum=given.quorum)
    if method == b"HEAD":
        return Read(path, recursive=given.recursive, sort=given.sort, quorum=False)
    return Write(_command(method, path, given, wall_ns), given.quiet, given.recursive)


def _refuse_unnameable(path: bytes) -> None:
    """Refuse to create a key that no client could be told: JSON has no bytes that are not UTF-8.

    etcd takes them, and lists each of them as U+FFFD, so that keys which differ look the same and none can be read by
    the name that is shown. One that exists, in older data, can be read, watched, updated and deleted still.

    Raises:
        EtcdError: The key is not UTF-8: a surrogate or an overlong form, or no form at all.
    """
    try:
        path.decode()
    except UnicodeDecodeError:
        raise EtcdError(ErrorCode.INVALID_FIELD, b"the key is not UTF-8") from None


def _command(method: bytes, path: bytes, given: _Parameters, wall_ns: Callable[[], int]) -> Command:
    value, ttl_s, refresh = given.value, given.ttl_s, given.refresh
    conditional = given.prev_index > 0 or given.prev_value is not None
    if method == b"DELETE":
        if conditional:
            return CompareAndDelete(path, given.prev_value, given.prev_index)
        return Delete(path, given.directory, given.recursive)
    expiration_ns = 0
    if ttl_s != NO_TTL:
        # Go multiplies and adds in int64 and wraps; an expiry beyond the year 2262 is refused instead.
        expiration_ns = wall_ns() + ttl_s * NS_PER_S
        if expiration_ns > _INT64_MAX:
            raise EtcdError(ErrorCode.TTL_NAN, b'invalid value for "ttl"')
    if given.prev_exist is False or not (conditional or given.prev_exist) or method == b"POST":
        _refuse_unnameable(path)
    if method == b"POST":
        return CreateInOrder(path, value, given.directory, ttl_s, expiration_ns)
    assert method == b"PUT"
    if given.prev_exist is False:
        return Create(path, value, given.directory, ttl_s, expiration_ns, refresh)
    if conditional:
        return CompareAndSwap(path, value, given.prev_value, given.prev_index, ttl_s, expiration_ns, refresh)
    if given.prev_exist:
        return Update(path, value, ttl_s, expiration_ns, refresh)
    return Set(path, value, given.directory, ttl_s, expiration_ns, refresh)


_CACHED_QUERY_BYTES_MAX: Final = 128
"""Clients send the same few GET queries for ever; longer ones are not worth their place."""


@final
@dataclass(slots=True, frozen=True)
class _GetQuery:
    """A GET's parsed query, for any path."""

    outcome: Read | Watch | EtcdError

    def request(self, path: bytes) -> Read | Watch:
        outcome = self.outcome
        if isinstance(outcome, Read):
            return Read(path, outcome.recursive, outcome.sort, outcome.quorum)
        if isinstance(outcome, Watch):
            return Watch(path, outcome.recursive, outcome.stream, outcome.wait_index)
        # A fresh error each time: raising the cached one would grow its traceback for ever.
        raise EtcdError(outcome.code, outcome.cause)


@lru_cache(maxsize=512)
def _parse_get_query(query: bytes) -> _GetQuery:
    """A GET's outcome depends on its query alone: no write, so no clock is asked."""
    try:
        request = parse_general(b"GET", b"", query, None, b"", lambda: 0)
    except EtcdError as error:
        return _GetQuery(EtcdError(error.code, error.cause))
    assert not isinstance(request, Write)
    return _GetQuery(request)
