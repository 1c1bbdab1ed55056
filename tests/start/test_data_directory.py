"""Who may open the data directory, looked at before it is opened."""

import logging
from pathlib import Path

import pytest

from kvraft.settings.flags import SettingsError
from kvraft.start.data_directory import check_mode


def test_a_directory_that_others_may_open_is_told_or_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It holds hashes of passwords; with --insecure=false such a start ends."""
    tmp_path.chmod(0o750)
    with caplog.at_level(logging.WARNING):
        check_mode(tmp_path, is_strict=False)
    assert [record.message for record in caplog.records] == ["others may open the directory: chmod 700"]
    with pytest.raises(SettingsError, match=r"others may open it: chmod 700"):
        check_mode(tmp_path, is_strict=True)


def test_a_directory_of_ones_own_and_what_is_none_are_nothing_to_speak_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is not there yet will be made so."""
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch(0o644)
    with caplog.at_level(logging.WARNING):
        for path in (tmp_path, tmp_path / "file", tmp_path / "missing"):
            check_mode(path, is_strict=True)
    assert caplog.records == []
