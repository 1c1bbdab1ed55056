"""Stories of several servers, written down step by step and reviewed (see transcript.py)."""

import pytest

from tests.raft.transcript import SCRIPTS, run_script


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.txt")))
def test_script_prints_what_was_reviewed(name: str) -> None:
    """Every step of the story is as it was when somebody read it."""
    text = (SCRIPTS / f"{name}.txt").read_text()
    assert run_script(text) == text
