"""Forms and media types: every expectation was answered by etcd 3.4.23 itself."""

import pytest

from kvraft.api_v2.go_forms import FORM_BYTES_MAX, FORM_MEDIA_TYPE, go_quote, parse_form
from kvraft.api_v2.go_media_types import parse_media_type
from kvraft.keyspace.errors import ErrorCode, EtcdError

FORM = FORM_MEDIA_TYPE.encode()


def cause_of(query: bytes = b"", body: bytes = b"", content_type: bytes | None = FORM) -> bytes:
    """The cause with which a PUT's form is refused."""
    with pytest.raises(EtcdError) as caught:
        parse_form(query, with_body=True, content_type=content_type, body=body)
    assert caught.value.code is ErrorCode.INVALID_FORM
    return caught.value.cause


@pytest.mark.parametrize(
    ("form", "cause"),
    [
        (b"a=%zz", b'invalid URL escape "%zz"'),
        (b"a=%", b'invalid URL escape "%"'),
        (b"a=%a", b'invalid URL escape "%a"'),
        (b"a=%e2%8", b'invalid URL escape "%8"'),
        (b"%zz=a", b'invalid URL escape "%zz"'),
        (b"%=1", b'invalid URL escape "%"'),
        (b"a=%%", b'invalid URL escape "%%"'),
        (b"a=%g%zz", b'invalid URL escape "%g%"'),
        (b"a=%\x80\x80", b'invalid URL escape "%\\x80\\x80"'),
        (b"value=%4x5", b'invalid URL escape "%4x"'),
        (b"a;b", b"invalid semicolon separator in query"),
        (b"a=%zz&b;c", b"invalid semicolon separator in query"),
        (b"b;c&a=%zz", b"invalid semicolon separator in query"),
        (b"a=%yy&b=%zz", b'invalid URL escape "%yy"'),
    ],
)
def test_broken_form_is_refused_with_go_text_from_body_and_query(form: bytes, cause: bytes) -> None:
    """The first bad escape is reported, unless any pair holds a semicolon."""
    assert cause_of(body=form) == cause
    assert cause_of(query=form) == cause


def test_body_complaint_comes_before_the_query_complaint() -> None:
    """Body first, then query; a media type that makes no sense before both."""
    assert cause_of(query=b"x=%yy", body=b"value=%zz") == b'invalid URL escape "%zz"'
    assert cause_of(query=b"x=%yy", body=b"value=1;b") == b"invalid semicolon separator in query"
    assert cause_of(query=b"x=%yy", content_type=b"a/b/c") == b"mime: unexpected content after media subtype"


def test_body_value_hides_the_one_of_the_query_and_the_first_of_each_wins() -> None:
    """Go's Form holds the body's values before the query's, and etcd asks for the first."""
    form = parse_form(b"value=q&ttl=1&ttl=2", with_body=True, content_type=FORM, body=b"value=b&value=c")
    assert form == {b"value": b"b", b"ttl": b"1"}


def test_plus_is_a_space_and_escapes_are_bytes() -> None:
    """url.QueryUnescape, also in names."""
    form = parse_form(b"", with_body=True, content_type=FORM, body=b"a+b=c+%2B%ff&=x&&d")
    assert form == {b"a b": b"c +\xff", b"": b"x", b"d": b""}


@pytest.mark.parametrize("content_type", [None, b"", b"application/json", b"multipart/form-data", b"application"])
def test_body_that_is_no_form_is_ignored(content_type: bytes | None) -> None:
    """Without the form media type the body is not even looked at."""
    assert parse_form(b"a=1", with_body=True, content_type=content_type, body=b"value=%zz") == {b"a": b"1"}


def test_body_of_ten_mebibytes_is_taken_and_one_byte_more_is_not() -> None:
    """Go's limit is inclusive."""
    body = b"value=".ljust(FORM_BYTES_MAX, b"x")
    assert len(parse_form(b"", with_body=True, content_type=FORM, body=body)[b"value"]) == FORM_BYTES_MAX - 6
    assert cause_of(body=body + b"x") == b"http: POST too large"


@pytest.mark.parametrize(
    ("content_type", "complaint"),
    [
        ("application/x-www-form-urlencoded; param=value", None),
        ("APPLICATION/X-WWW-FORM-URLENCODED", None),
        ("application/x-www-form-urlencoded;", None),
        ("application/x-www-form-urlencoded; a=b ; ", None),
        ('application/x-www-form-urlencoded; a="b\\"c"', None),
        ("application/x-www-form-urlencoded; a*0=b; a*1=c", None),
        ("application/x-www-form-urlencoded; a*=utf-8''x", None),
        ("application/x-www-form-urlencoded ;charset", "mime: invalid media parameter"),
        ("application/x-www-form-urlencoded; =x", "mime: invalid media parameter"),
        ('application/x-www-form-urlencoded; a="b', "mime: invalid media parameter"),
        ("application/x-www-form-urlencoded; a=", "mime: invalid media parameter"),
        ("application/x-www-form-urlencoded;;", "mime: invalid media parameter"),
        ("application/x-www-form-urlencoded; a b=c", "mime: invalid media parameter"),
        ("application/x-www-form-urlencoded; a=b c", "mime: invalid media parameter"),
        ("text/plain; charset=bad,", "mime: invalid media parameter"),
        ("a/b;é=x", "mime: invalid media parameter"),
        ("application/x-www-form-urlencoded; a=b; a=c", "mime: duplicate parameter name"),
        ("application/x-www-form-urlencoded; a=b; A=b", "mime: duplicate parameter name"),
        ("a b", "mime: expected slash after first token"),
        ("a / b", "mime: expected slash after first token"),
        ("a/", "mime: expected token after slash"),
        ("a/ b", "mime: expected token after slash"),
        ("a/b/c", "mime: unexpected content after media subtype"),
        ("a/b/", "mime: unexpected content after media subtype"),
        ("application/x-www-form-urlencoded, text/plain", "mime: unexpected content after media subtype"),
        ("application/x-www-form-urlencoded charset=utf-8", "mime: unexpected content after media subtype"),
        ("/", "mime: no media type"),
        ("/b", "mime: no media type"),
        ("; a=b", "mime: no media type"),
        ("@/b", "mime: no media type"),
        ("é/b", "mime: no media type"),
    ],
)
def test_media_type_is_judged_as_go_judges_it(content_type: str, complaint: str | None) -> None:
    """mime.ParseMediaType of Go 1.19, which allows no parameter twice, not even with equal values."""
    media_type, error = parse_media_type(content_type.encode("latin-1"))
    if complaint is None:
        assert error is None
        assert media_type == FORM_MEDIA_TYPE
    else:
        assert error is not None
        assert error == complaint.encode()


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [
        (b'%"', b'"%\\""'),
        (b"%\\n", b'"%\\\\n"'),
        (b"%\n", b'"%\\n"'),
        (b"%\x00", b'"%\\x00"'),
        (b"%\x7f", b'"%\\x7f"'),
        (b"%\xc3\xa9", b'"%\xc3\xa9"'),
        (b"%\xc2\x85", b'"%\\u0085"'),
        (b"%\xc3", b'"%\\xc3"'),
    ],
)
def test_broken_escape_is_quoted_as_go_quotes(raw: bytes, quoted: bytes) -> None:
    """strconv.Quote."""
    assert go_quote(raw) == quoted
