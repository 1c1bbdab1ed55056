"""Whether a start is a proxy's: what is in the directory goes before the flag."""

import pathlib

import pytest

from kvraft.settings.flags import SettingsError, read
from kvraft.start import proxying, start
from kvraft.storage.errors import WrongDirectoryError


@pytest.mark.parametrize("mode", ["on", "readonly"])
def test_proxy_leaves_the_directory_of_an_etcd_member_as_it_is(
    mode: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a `proxy/` beside `member/`, etcd would refuse to go back to it."""
    monkeypatch.setattr(proxying, "run", lambda *_: pytest.fail("served"))
    (tmp_path / "member" / "wal").mkdir(parents=True)
    with pytest.raises(WrongDirectoryError, match=r"holds etcd's data, which kvraft does not read: choose an empty"):
        start.start(read([f"--proxy={mode}", f"--data-dir={tmp_path}"], {}))
    assert [path.name for path in tmp_path.iterdir()] == ["member"]


@pytest.mark.parametrize("mode", ["off", "on"])
def test_directory_of_an_etcd_member_and_a_proxy_starts_nothing(
    mode: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in etcd; without `proxy/` its member goes on."""
    monkeypatch.setattr(proxying, "run", lambda *_: pytest.fail("served"))
    for name in ("member", "proxy"):
        (tmp_path / name).mkdir()
    with pytest.raises(SettingsError, match=rf"both a member's data and a proxy's .* or remove {tmp_path}/proxy$"):
        start.start(read([f"--proxy={mode}", f"--data-dir={tmp_path}"], {}))
