"""What patterns allow, and what stands beside them."""

import pytest

from kvraft.security.rights import Rights

READ = ("/a/*", "/b", "/c*")


@pytest.mark.parametrize(
    ("key", "plain", "recursive"),
    [
        (b"/a", False, False),
        (b"/a/", True, True),
        (b"/a/x", True, True),
        (b"/ab", False, False),
        (b"/ab/x", False, False),
        (b"/b", True, False),
        (b"/b/", False, False),
        (b"/b/x", False, False),
        (b"/c", True, True),
        (b"/cd", True, True),
        (b"/C", False, False),
        (b"", False, False),
        (b"/", False, False),
        (b"/a/*", True, True),
        (b"/b*", False, False),
    ],
)
def test_a_pattern_allows_its_key_or_its_beginning(key: bytes, plain: bool, recursive: bool) -> None:
    """Byte by byte, the key as it was sent; what is below a single key is not its own."""
    rights = Rights(READ)
    assert rights.allows(key, write=False, recursive=False) is plain
    assert rights.allows(key, write=False, recursive=True) is recursive
    assert not rights.allows(key, write=True, recursive=False)


def test_reading_and_writing_are_rights_of_their_own() -> None:
    """Neither follows from the other."""
    rights = Rights(("/r",), ("/w",))
    assert [rights.allows(key, write=write, recursive=False) for key in (b"/r", b"/w") for write in (False, True)] == [
        True,
        False,
        False,
        True,
    ]


def test_root_may_do_everything_and_nobody_nothing() -> None:
    """Also with the key that no pattern of all keys has, the empty one."""
    for key in (b"", b"/", b"/x"):
        assert Rights(is_root=True).allows(key, write=True, recursive=True)
        assert not Rights().allows(key, write=False, recursive=False)
        assert Rights(("/*",)).allows(key, write=False, recursive=True) is (key != b"")


def test_an_empty_pattern_allows_nothing() -> None:
    """It would be the beginning of every key; etcd panics."""
    assert not Rights(("",)).allows(b"/x", write=False, recursive=False)
    assert not Rights(("",)).allows(b"", write=False, recursive=False)


def test_patterns_and_keys_are_compared_as_bytes() -> None:
    """Half of a letter is the beginning of it in no pattern, as a pattern is text."""
    rights = Rights(("/é*", "/\ufffd"))
    assert rights.allows("/éx".encode(), write=False, recursive=False)
    assert not rights.allows(b"/\xc3", write=False, recursive=False)
    assert not rights.allows(b"/\xff", write=False, recursive=False)
