"""The file of `kvraft export`: every kind of key and value comes back, and what is not whole is told of."""

import contextlib
import pathlib
import stat

import pytest

from kvraft.keyspace.account_commands import Permissions
from kvraft.keyspace.account_records import Role, User
from kvraft.migration.contents import Contents, MigrationError, Node
from kvraft.migration.json_lines import contents_of, lines_of
from kvraft.storage.whole_file import whole_file

_CONTENTS = Contents(
    77,
    [
        Node(b"/d", None, 5, 3, 3),
        Node(b"/d/\xff", b"\x00\xfe", 0, 4, 5),
        Node('/ü "q"\n'.encode(), b'two\nlines "q" \\ \xe2\x80\xa8', 9, 6, 7),
        Node(b"/empty", b"", 0, 8, 8),
        Node(b"/large", b"x" * (1 << 20), 0, 9, 9),
    ],
    [User("u", b"$2a$hash", ("r",)), User("w", b"", ())],
    [Role("r", Permissions(("/a/*",), ()))],
    auth_enabled=True,
)


def _lines(contents: Contents = _CONTENTS) -> list[bytes]:
    return [line.encode() for line in lines_of(contents)]


def test_everything_comes_back() -> None:
    """Bytes that are not UTF-8, quotes, line feeds, hashes, indices, 1 MiB."""
    assert contents_of(_lines(), "f") == _CONTENTS


def test_directories_that_have_no_line_are_made() -> None:
    """Otherwise a target would have them as extra ones, and lose them with all that is in them."""
    nodes = [Node(b"/_a/b/c", b"", 0, 4, 5), Node(b"/_a/d", b"", 0, 6, 6), Node(b"/e", None, 0, 7, 7)]
    made = [Node(b"/_a", None, 0, 4, 4), Node(b"/_a/b", None, 0, 4, 4)]
    assert contents_of(_lines(Contents(9, nodes)), "f").nodes == made + nodes


def test_a_line_is_a_line() -> None:
    """Whatever values hold."""
    assert all(line.count(b"\n") == 1 and line.endswith(b"\n") for line in _lines())


def test_an_empty_tree_comes_back() -> None:
    """Two lines."""
    assert contents_of(_lines(Contents(0)), "f") == Contents(0)


def test_the_format_is_as_it_was() -> None:
    """Files of version 1 have to be read for ever."""
    lines = _lines(Contents(7, _CONTENTS.nodes[:2], _CONTENTS.users[:1], _CONTENTS.roles))
    assert b"".join(lines).decode() == (
        '{"kvraft_export":1,"etcd_index":7,"auth_enabled":false}\n'
        '{"key":"/d","dir":true,"expiration_ns":5,"createdIndex":3,"modifiedIndex":3}\n'
        '{"key_base64":"L2Qv/w==","value_base64":"AP4=","createdIndex":4,"modifiedIndex":5}\n'
        '{"role":"r","read":["/a/*"],"write":[]}\n'
        '{"user":"u","roles":["r"],"password_hash":"$2a$hash"}\n'
        '{"end": true, "lines": 5}\n'
    )


@pytest.mark.parametrize("missing", range(1, len(_lines()) + 1))
def test_a_file_that_lost_its_end_is_refused(missing: int) -> None:
    """Wherever it was cut off."""
    with pytest.raises(MigrationError, match=r"not whole|empty"):
        contents_of(_lines()[:-missing], "f")


def test_a_file_that_lost_a_line_is_refused() -> None:
    """The last line counts."""
    lines = _lines()
    del lines[2]
    with pytest.raises(MigrationError, match=r"line 9: .*9 lines were written, and 8 are there"):
        contents_of(lines, "f")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"\x7fELF\x00", "line 1: not written by kvraft export"),
        (b"{}", "line 1: not written by kvraft export"),
        (b"[1]", "line 1: not written by kvraft export"),
        (b'{"kvraft_export":2}', "format 2, and this kvraft reads 1"),
        (b'{"kvraft_export":1,"etcd_index":1}\n{"key":"no-slash","value":""}', "line 2: not written"),
        (b'{"kvraft_export":1,"etcd_index":1}\n{"key":"/k"}', "line 2: not written"),
        (b'{"kvraft_export":1,"etcd_index":1}\n{"key_base64":"?","value":""}', "line 2: not written"),
        (b"[" * 200_000, "line 1: not written by kvraft export"),
        (b'{"kvraft_export":1,"etcd_index":1e999}', "line 1: not written by kvraft export"),
        *(
            (b'{"kvraft_export":1,"etcd_index":1}\n' + line, "line 2: not written")
            for line in (
                b"[" * 200_000,
                b'{"key":"/k","value":"","expiration_ns":1e999}',
                b'{"key":"/k","value":{"a":1}}',
                b'{"role":["r"],"read":[],"write":[]}',
                b'{"role":"r","read":"/*","write":[]}',
                b'{"role":"r","read":[1],"write":[]}',
                b'{"user":"u","roles":"root"}',
            )
        ),
    ],
)
def test_other_files_are_refused_with_the_line(line: bytes, said: str) -> None:
    """One sentence, and nothing taken."""
    with pytest.raises(MigrationError) as refused:
        contents_of(line.splitlines(), "f")
    assert said in str(refused.value)


def test_file_that_may_hold_hashes_is_nobody_elses(tmp_path: pathlib.Path) -> None:
    """Even where somebody has put one in its place, or a link to another."""
    other = tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / "f.new").symlink_to(other)
    with whole_file(tmp_path / "f") as file:
        file.writelines(_lines())
    assert stat.S_IMODE((tmp_path / "f").lstat().st_mode) == 0o600
    assert (tmp_path / "f").read_bytes() == b"".join(_lines())
    assert other.read_text() == "theirs"


def test_of_two_writers_at_once_neither_puts_the_others_half_there(tmp_path: pathlib.Path) -> None:
    """The one that came first is told; what the other writes stands once it is whole."""
    path = tmp_path / "f"
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(whole_file(path)).write(b"first")
        second.enter_context(whole_file(path)).write(b"second")
        with pytest.raises(OSError, match="another process writes it, too"):
            first.close()
        assert not path.exists()
    assert path.read_bytes() == b"second"
