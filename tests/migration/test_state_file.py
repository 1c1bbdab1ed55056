"""The state of an import on disk."""

from pathlib import Path

import pytest

from kvraft.migration import state_file
from kvraft.migration.contents import MigrationError
from kvraft.migration.state_file import Progress


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """And nothing where nothing was saved."""
    path = tmp_path / "state"
    assert state_file.load(path, "a", "b") is None
    indices = {b"/": 7, "/_ü".encode(): 8, b"/_\xff": 9}
    state_file.save(path, Progress("a", "b", indices))
    assert state_file.load(path, "a", "b") == Progress("a", "b", indices)
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"source":1}', '{"source":"a","target":"b","indices":[]}', "\x00"])
def test_a_file_that_is_no_state_is_refused(tmp_path: Path, text: str) -> None:
    """With what to do."""
    (tmp_path / "state").write_text(text)
    with pytest.raises(MigrationError, match="remove it to begin anew"):
        state_file.load(tmp_path / "state", "a", "b")


def test_the_state_of_another_import_is_refused(tmp_path: Path) -> None:
    """Both are named."""
    state_file.save(tmp_path / "state", Progress("old", "b"))
    with pytest.raises(MigrationError, match="from old to b, and this one is from a to b"):
        state_file.load(tmp_path / "state", "a", "b")
