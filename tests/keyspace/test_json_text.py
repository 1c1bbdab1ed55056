"""Values as Go's JSON strings (contract A.1; the vectors were answered by etcd 3.4.23)."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvraft.keyspace.json_text import decode_value, encode_value, escape

VECTORS: list[tuple[bytes, bytes]] = [
    (b"", b'""'),
    (b"plain ~!'/ text", b'"plain ~!\'/ text"'),
    (b'"\\', b'"\\"\\\\"'),
    (b"<a href='x'>&", b"\"\\u003ca href='x'\\u003e\\u0026\""),
    (b"\n\r\t", b'"\\n\\r\\t"'),
    (b"\x00\x01\x08\x0b\x0c\x1f", b'"\\u0000\\u0001\\u0008\\u000b\\u000c\\u001f"'),
    (b"\\b\\f\x08\n\\", b'"\\\\b\\\\f\\u0008\\n\\\\"'),
    (b"\x7f", b'"\x7f"'),
    ("é 語 😀".encode(), '"é 語 😀"'.encode()),
    ("a\u2028b\u2029c".encode(), b'"a\\u2028b\\u2029c"'),
    ("\ufffd".encode(), '"\ufffd"'.encode()),
]

LOSSY: list[tuple[bytes, bytes]] = [
    (b"\xff", b'"\\ufffd"'),
    (b"a\xe2\x82b", b'"a\\ufffd\\ufffdb"'),
    (b"\xed\xa0\x80", b'"\\ufffd\\ufffd\\ufffd"'),
    (b"\xc0\x80\xf5", b'"\\ufffd\\ufffd\\ufffd"'),
    (b"\xf0\x9f\x98", b'"\\ufffd\\ufffd\\ufffd"'),
    (b"&#255;\xff<", b'"\\u0026#255;\\ufffd\\u003c"'),
    (b"\x08\\\xff", b'"\\u0008\\\\\\ufffd"'),
]


@pytest.mark.parametrize(("raw", "value_json"), VECTORS, ids=lambda data: data.hex()[:24] or "empty")
def test_valid_text_is_escaped_as_go_does_and_not_kept_twice(raw: bytes, value_json: bytes) -> None:
    """What decoding gives back need not be held beside its JSON form."""
    assert encode_value(raw) == (value_json, None)
    assert decode_value(value_json) == raw
    assert escape(raw) == value_json[1:-1]


@pytest.mark.parametrize(("raw", "value_json"), LOSSY, ids=lambda data: data.hex()[:24])
def test_each_invalid_byte_is_replaced_and_the_value_kept(raw: bytes, value_json: bytes) -> None:
    """Go replaces byte by byte, where Python would merge a broken sequence."""
    assert encode_value(raw) == (value_json, raw)
    assert escape(raw) == value_json[1:-1]


def _go_decodes(raw: bytes) -> str:
    """What a client sees: bytes that are no part of valid UTF-8 replaced one by one, by a plain loop."""
    text = ""
    at = 0
    while at < len(raw):
        for length in (1, 2, 3, 4):
            try:
                text += raw[at : at + length].decode()
            except UnicodeDecodeError:
                continue
            at += length
            break
        else:
            text += "\ufffd"
            at += 1
    return text


@given(st.one_of(st.binary(max_size=60), st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace"))))
def test_any_bytes_become_json_that_decodes_to_what_go_shows(raw: bytes) -> None:
    """The JSON is always valid UTF-8 on one line, and `raw` is kept exactly when it is needed."""
    value_json, kept = encode_value(raw)
    assert json.loads(value_json) == _go_decodes(raw)
    assert min(value_json, default=0) >= 0x20
    assert (decode_value(value_json) if kept is None else kept) == raw
