"""Paths: every expectation was answered by etcd 3.4.23 itself."""

import pytest

from kvraft.api_v2.targets import Target, clean_path, parse_target, redirect_body, redirect_header, redirect_url


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/v2/keys/foo?a=b", b"/v2/keys/foo", b"a=b"),
        (b"/v2/keys/foo?", b"/v2/keys/foo", b""),
        (b"/v2/keys/foo??a=b", b"/v2/keys/foo", b"?a=b"),
        (b"/v2/keys/a%20b+c%2Fd%00", b"/v2/keys/a b+c/d\x00", b""),
        (b"/v2/keys/foo#frag", b"/v2/keys/foo#frag", b""),
        (b"/v2/keys/\xc3\xa9\xff", b"/v2/keys/\xc3\xa9\xff", b""),
        (b"http://x/v2/keys/foo?a", b"/v2/keys/foo", b"a"),
        (b"http://x", b"", b""),
        (b"//evil.example/..", b"//evil.example/..", b""),
    ],
)
def test_target_is_taken_apart(target: bytes, path: bytes, query: bytes) -> None:
    """The path is decoded, the query is not; `+` in a path is itself, `#` is a character."""
    assert parse_target(target) == Target(path, query)


@pytest.mark.parametrize(
    "target",
    [b"v2/keys", b"*", b"?a=b", b"", b"/v2/keys/%zz", b"/v2/keys/a%", b"/a b", b"/a\x01", b"/a?b\x7f", b"/a\r"],
)
def test_target_that_go_refuses_is_none(target: bytes) -> None:
    """Relative targets, broken escapes in the path, control characters anywhere."""
    assert parse_target(target) is None


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        (b"/v2/keys/foo", b"/v2/keys/foo"),
        (b"/v2/keys/.foo/..a", b"/v2/keys/.foo/..a"),
        (b"/v2/keys//foo", b"/v2/keys/foo"),
        (b"/v2/keys/foo//", b"/v2/keys/foo/"),
        (b"/v2/keys/foo/.", b"/v2/keys/foo"),
        (b"/v2/keys/foo/..", b"/v2/keys"),
        (b"/v2/keys/foo/../", b"/v2/keys/"),
        (b"/v2/../../..", b"/"),
        (b"//", b"/"),
        (b"", b"/"),
    ],
)
def test_path_is_cleaned_as_by_servemux(path: bytes, cleaned: bytes) -> None:
    """A trailing slash stays; names that only begin with dots are names."""
    assert clean_path(path) == cleaned


def test_redirect_escapes_path_and_keeps_query() -> None:
    """Upper-case escapes in the path, lower-case ones where the query is not ASCII, HTML escapes in the body."""
    url = redirect_url(b"/v2/keys/a?b#c%d+e/f&g'h \xff", b"recursive=true&x=%zz\xc3\"'")
    assert url == b"/v2/keys/a%3Fb%23c%25d+e/f&g%27h%20%FF?recursive=true&x=%zz\xc3\"'"
    assert redirect_header(url).endswith(b"?recursive=true&x=%zz%c3\"'")
    assert redirect_body(url) == (
        b'<a href="/v2/keys/a%3Fb%23c%25d+e/f&amp;g%27h%20%FF?recursive=true&amp;x=%zz\xc3&#34;&#39;">'
        b"Moved Permanently</a>.\n\n"
    )
