"""What an Authorization header says, and what of it is remembered."""

import base64

import pytest

from kvraft.security import logins
from kvraft.security.logins import Login, RememberedLogins, basic


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (b"Basic eDpw", (b"x", b"p")),
        (b"bAsIc eDpw", (b"x", b"p")),
        (b"Basic " + base64.b64encode(b"x:p:q"), (b"x", b"p:q")),
        (b"Basic " + base64.b64encode(b":"), (b"", b"")),
        (b"Basic " + base64.b64encode(b"\xff:\x00"), (b"\xff", b"\x00")),
        (b"Basic eDpw=", None),
        (b"Basic eDp", None),
        (b"Basic  eDpw", None),
        (b"Basic eDpw ", None),
        (b"Basic eDp-", None),
        (b"Basic cm9vdA==", None),
        (b"Basic", None),
        (b"Basic ", None),
        (b"Bearer eDpw", None),
        (b"", None),
    ],
)
def test_only_a_basic_header_names_somebody(header: bytes, found: tuple[bytes, bytes] | None) -> None:
    """A name ends at the first colon; what is not base64 to the letter is nobody's."""
    assert basic(header) == found


def test_a_header_is_known_again_by_a_digest_of_this_process() -> None:
    """Another process, with another key, has another digest; nothing kept shows what was digested."""
    one, other = RememberedLogins(), RememberedLogins()
    digest = one.digest(b"Basic eDpw")
    assert digest == one.digest(b"Basic eDpw")
    assert digest != one.digest(b"Basic eDpx")
    assert digest != other.digest(b"Basic eDpw")
    one.remember(digest, Login("x", b"hash"))
    assert one.find(digest) == Login("x", b"hash")
    assert b"eDpw" not in repr(vars(one)).encode()
    one.forget(digest)
    assert one.find(digest) is None


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest gives way; one that is remembered anew is the newest."""
    monkeypatch.setattr(logins, "REMEMBERED_MAX", 3)
    kept = RememberedLogins()
    for name in (b"a", b"b", b"c", b"a", b"d"):
        kept.remember(name, Login(name.decode()))
    assert [name for name in (b"a", b"b", b"c", b"d") if kept.find(name) is not None] == [b"a", b"c", b"d"]


def test_a_login_shows_no_hash() -> None:
    """In a log line or a traceback."""
    assert "secret" not in repr(Login("x", b"secret"))
