import pathlib

import pytest

from kvraft.start import service_manager


def test_service_manager_that_is_gone_stops_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A socket that nobody reads, or no socket: a line in the log at most."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service_manager.tell("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    service_manager.tell("READY=1")
    assert [record.getMessage() for record in caplog.records] == ["the service manager cannot be told"]
