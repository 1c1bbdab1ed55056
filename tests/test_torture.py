import pathlib

import pytest

from tests import tried
from tests.torture import Part, torture


def test_a_part_that_finds_something_is_counted_and_keeps_its_output(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table counts runs and findings; what a run printed stays, with the command that repeats it."""
    good = Part(
        "good", 0.5, lambda _seed, _seconds, _directory: ["-c", "print('fine'); print('tried: 2 seeds, 3 faults')"]
    )
    bad = Part("bad", 0.5, lambda seed, _seconds, _directory: ["-c", f"print('broken by {seed}'); raise SystemExit(3)"])
    found = torture([good, bad], 0.002, tmp_path)
    assert good.runs >= 1
    assert good.found == 0
    assert found == bad.found == bad.runs >= 1
    outputs = [path.read_text() for path in tmp_path.glob("bad-*/output.txt")]
    assert len(outputs) == bad.runs
    assert all("broken by" in output.splitlines()[1] for output in outputs)
    table = capsys.readouterr().out
    assert "FOUND SOMETHING" in table
    assert f"bad{bad.runs:>19}{bad.found:>7}" in table
    assert f"{2 * good.runs} seeds, {3 * good.runs} faults" in table


def test_what_was_tried_is_read_as_it_is_written() -> None:
    """Also over several lines among others; a count of nothing is left out."""
    printed = (
        f"starting\n{tried.line({'kills': 3, 'flipped bits': 10, 'images': 0})}\nbye\n{tried.line({'kills': 4})}\n"
    )
    assert tried.read(printed) == {"kills": 7, "flipped bits": 10}
