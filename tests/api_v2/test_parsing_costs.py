"""What a small part of a request may cost before anybody is judged: time and memory stay in proportion, or bounded."""

import contextlib
import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvraft.api_v2 import auth, go_forms, members, misc
from kvraft.api_v2.go_forms import FORM_MEDIA_TYPE, FormError, is_good_query, parse_pairs, values_of
from kvraft.api_v2.go_json_reader import BYTES_MAX, VALUES_MAX, first_value, read
from kvraft.api_v2.go_json_scanner import GoJsonError, scan
from kvraft.api_v2.go_media_types import parse_media_type
from kvraft.api_v2.go_urls import URL_CHARS_MAX, peer_urls
from kvraft.api_v2.targets import redirect_header, redirect_url
from tests.api_v2 import old_media_types

SMALL: Final = 8_000
"""Parameters; eight times as many took some fifty times as long."""
PEAK_BYTES_MAX: Final = 16 << 20
BODY_BYTES: Final = 10 << 20


def fastest_s(work: Callable[[], object]) -> float:
    """Of a few turns, so that a busy machine does not count."""
    times = []
    for _ in range(5):
        before = time.perf_counter()
        work()
        times.append(time.perf_counter() - before)
    return min(times)


@pytest.mark.parametrize(
    "header",
    [
        lambda count: b'a/b;z="\xe9"' + b"".join(b";%x=b" % number for number in range(count)),
        lambda count: b'a/b;z="' + b"\\a\\(" * count,
        lambda count: b'a/b;z="' + b"\\a\\(" * count + b'"',
        lambda count: b"a/b;z" + b"  a " * count,
        lambda count: b"a/b;z" + b" " * 5 * count + b"z",
        lambda count: b"a/b;" + b"z" * 5 * count + b" " * 5 * count,
        lambda count: b'a/b;z="' + b'";z="' * count,
        lambda count: b"a/b" + b" " * 5 * count + b"z",
        lambda count: b"a" * 5 * count + b"/",
    ],
    ids=["parameters", "open quote", "closed quote", "words", "gap", "word and gap", "quotes", "type and gap", "type"],
)
def test_media_type_takes_time_in_proportion(header: Callable[[int], bytes]) -> None:
    """A MiB of parameters took seconds, each of which copied what was behind it four times."""
    small, large = header(SMALL), header(SMALL * 8)
    assert fastest_s(lambda: parse_media_type(large)) < 24 * fastest_s(lambda: parse_media_type(small)) + 1e-4


PIECES: Final = st.sampled_from(
    [*'a/b;="\\ \t\r\n(),@:é\x85\xa0\x1c\u2003', ";a=b", ";A=b", '; c="d"', FORM_MEDIA_TYPE, '\\"', "z ="]
)


@given(st.lists(PIECES, max_size=24).map("".join) | st.text(), st.sampled_from(["", "a/b", "a/b;x=y"]))
def test_media_type_is_what_it_was_character_by_character(text: str, before: str) -> None:
    """The same type and the same complaint as by a walk that follows Go's functions one by one."""
    for encoding in ("utf-8", "latin-1"):
        header = (before + text).encode(encoding, "ignore")
        assert parse_media_type(header) == old_media_types.parse_media_type(header)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * (BODY_BYTES // 2 - 1) + b"1]",
        b'{"a":[' + b"{}," * (BODY_BYTES // 3 - 9) + b"{}]}",
        b'{"a":[' + b"[]," * (BODY_BYTES // 3 - 9) + b"[]]}",
        b'{"a":{' + b'"":0,' * (BODY_BYTES // 5 - 9) + b'"":0}}',
    ],
    ids=["numbers", "objects", "arrays", "members"],
)
@pytest.mark.parametrize("reading", [misc.log_level_answer, auth._read_user, auth._read_role, members._peer_urls_in])
def test_body_of_millions_of_values_makes_no_millions_of_objects(
    reading: Callable[[bytes], object], body: bytes
) -> None:
    """The log's level is everybody's to set: such a body held the event loop for a second and took 400 MB."""
    tracemalloc.start()
    try:
        with contextlib.suppress(ValueError):
            reading(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < PEAK_BYTES_MAX


def test_largest_roles_are_read() -> None:
    """Six lists of 1,024 patterns, as many as one request may ask for."""
    patterns = b",".join(b'"/registry/some/where/%d*"' % number for number in range(1024))
    kv = b'{"kv":{"read":[%b],"write":[%b]}}' % (patterns, patterns)
    role = auth._read_role(b'{"role":"r","permissions":%b,"grant":%b,"revoke":%b}' % (kv, kv, kv))
    for given_ in (role.permissions, role.grant, role.revoke):
        assert given_ is not None
        assert [len(given_.read or ()), len(given_.write or ())] == [1024, 1024]


def test_first_value_may_be_followed_by_anything_and_has_to_end_in_time() -> None:
    """As json.Decoder has it, which looks at the first one only."""
    assert first_value(b'"x"' + b" " * BODY_BYTES) == "x"
    assert misc.log_level_answer(b'{"Level":"INFO"}' + b"[1," * (BODY_BYTES // 3)).status == 204
    for late in (b" " * BYTES_MAX + b'"x"', b'["x' + b"x" * BYTES_MAX + b'"]', b"[" + b"1," * (4 * VALUES_MAX) + b"1]"):
        with pytest.raises(GoJsonError):
            first_value(late)


@pytest.mark.parametrize("much", [b'["' + b"x" * BYTES_MAX + b'"]', b"[" + b"1," * VALUES_MAX + b"1]"])
def test_text_that_is_too_much_for_a_change_of_members_is_refused(much: bytes) -> None:
    """In the words that a body of more than 10 MiB gets."""
    with pytest.raises(GoJsonError, match=r"^http: request body too large$"):
        read(much)


@given(st.lists(st.sampled_from(['"', "\\", "\\n", "\\u00e9", "\\u12", "x", "\x01", "\\x", " ", "é"]), max_size=8))
def test_string_of_json_is_scanned_as_it_is_decoded(pieces: list[str]) -> None:
    """What Python's decoder takes has no complaint, and the other way round."""
    text = '"' + "".join(pieces) + '"'
    try:
        json.loads(text)
    except ValueError:
        with pytest.raises(GoJsonError):
            scan(text.encode())
    else:
        scan(text.encode())


def test_peer_url_is_measured_before_its_letters_are_looked_at() -> None:
    """However wrong it is."""
    with pytest.raises(ValueError, match=f"^URL must have at most {URL_CHARS_MAX} characters: "):
        peer_urls(["http://%zz" + "a" * URL_CHARS_MAX])
    with pytest.raises(ValueError, match=r"^at most 64 URLs for one member: 65$"):
        peer_urls([":"] * 65)


QUERIES: Final = st.lists(st.sampled_from([b"a", b"b", b"=", b"&", b"+", b"%41", b"%", b"4", b"%zz", b"\xff", b";"]))


@given(QUERIES.map(b"".join))
def test_query_is_good_when_no_pair_of_it_is_complained_of(query: bytes) -> None:
    """Found without a look at each of them."""
    assert is_good_query(query) == (parse_pairs(query, {}) is None)


@given(QUERIES.map(b"".join))
def test_values_of_a_name_are_those_of_its_good_pairs(query: bytes) -> None:
    """The first is the one of the form."""
    form: go_forms.Form = {}
    parse_pairs(query, form)
    for name in (b"a", b"b", b""):
        assert values_of(query, name)[:1] == ([form[name]] if name in form else [])


def test_page_with_a_handful_of_parameters_looks_at_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request line holds a million pairs."""
    looks = []

    def look(raw: bytes) -> bytes:
        looks.append(raw)
        if raw == b"bad":
            raise FormError(raw)
        return raw

    monkeypatch.setattr(go_forms, "unescape_form_text", look)
    assert values_of(b"a=1&bad&a=2" + b"&b=1" * (1 << 19), b"a") == [b"1", b"2"]
    assert len(looks) <= 2 * go_forms.PAIRS_MAX


def test_redirect_escapes_each_byte_as_go_does() -> None:
    """url.shouldEscape for a path, and http.hexEscapeNonASCII."""
    every = bytes(range(256))
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~$&+,/:;=@"
    assert redirect_url(every, b"") == b"".join(b"%c" % byte if byte in plain else b"%%%02X" % byte for byte in every)
    assert redirect_header(every) == b"".join(b"%c" % byte if byte < 128 else b"%%%02x" % byte for byte in every)
