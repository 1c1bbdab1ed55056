"""The man page."""

import pathlib
import subprocess
from typing import Final

import pytest

from kvraft.commands import manual, table
from kvraft.commands.codes import MEANINGS
from kvraft.commands.manual import escaped
from kvraft.commands.options import VARIABLES
from kvraft.settings.flag_table import FLAGS, Use
from tests.commands.test_main import every_command

PAGE: Final = pathlib.Path(__file__).parents[2] / "man" / "kvraft.1"


def test_page_of_the_checkout_is_what_help_shows() -> None:
    """If this fails: `.venv/bin/python -m kvraft.commands.manual > man/kvraft.1`."""
    assert PAGE.read_text() == manual.page()


def test_page_names_everything() -> None:
    """Subcommands, options, flags, variables and exit codes."""
    page = manual.page()
    wanted = [f'.SS "kvraft {" ".join(words)}' for words in every_command() if words != ("member",)]
    wanted += [escaped(f"--{flag.name}") for flag in FLAGS.values() if flag.use is Use.SETTING]
    wanted += map(escaped, table.GLOBAL_OPTIONS)
    wanted += [variable for variables in VARIABLES.values() for variable in variables]
    wanted += map(escaped, MEANINGS.values())
    assert [text for text in wanted if text not in page] == []


def test_text_is_no_request() -> None:
    """Roff takes a line that begins with a dot or a quote for one, and a backslash for an escape."""
    assert escaped(".TH") == r"\&.TH"
    assert escaped("'x' \\n a-b") == r"\&'x' \en a\-b"


@pytest.mark.landing
def test_page_is_good_roff() -> None:
    """No warning of any kind, and words where they belong."""
    command = ["groff", "-man", "-Tutf8", "-ww", "-P-cbou", str(PAGE)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert "kvraft member add NAME PEER_URL[,...]" in ended.stdout
    assert "--history-size" in ended.stdout
