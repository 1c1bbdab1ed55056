"""The file that a proxy keeps."""

import pathlib
import stat

import pytest

from kvraft.proxy.cluster_file import ClusterFile, ClusterFileError


def test_file_is_etcds_and_nobody_elses_to_read(tmp_path: pathlib.Path) -> None:
    """The form that etcd writes (startProxy), in a directory that is made for it."""
    file = ClusterFile(tmp_path / "new")
    assert file.read() is None
    for urls in (("http://a:1", "http://b:2"), ("http://c:3",)):
        file.write(urls)
        assert file.read() == urls
    assert file.path.read_bytes() == b'{"PeerURLs":["http://c:3"]}'
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(place.stat().st_mode) for place in (tmp_path / "new", file.directory)} == {0o700}
    assert [path.name for path in file.directory.iterdir()] == ["cluster"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", "[" * 200_000, '{"PeerURLs":[]}', '{"PeerURLs":null}', '{"PeerURLs":[1]}'),
        *('{"PeerURLs":["http://127.0.0.1:x"]}', '{"PeerURLs":["http://a:1","http://[::1"]}'),
        *('{"PeerURLs":["http://127.0.0.1:99999"]}', '{"PeerURLs":["127.0.0.1:2380"]}', '{"PeerURLs":[""]}'),
    ],
)
def test_damaged_file_is_named_with_the_remedy(tmp_path: pathlib.Path, text: str) -> None:
    """One line, and the file stays as it is."""
    file = ClusterFile(tmp_path)
    file.write(["http://a:1"])
    file.path.write_text(text)
    with pytest.raises(ClusterFileError, match="remove it, and name them with --initial-cluster"):
        file.read()
    assert file.path.read_text() == text
