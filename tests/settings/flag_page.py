"""The tables of flags in docs/operations.md, made of `flag_table.py`.

`python -m tests.settings.flag_page` writes them into the page; a test fails while the two differ.
"""

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from kvraft.settings.flag_table import ALIASES, ETCD_DEFAULTS, FLAGS, Flag, Use

PAGE: Final = pathlib.Path(__file__).parents[2] / "docs" / "operations.md"
_BEGIN: Final = "<!-- flags: python -m tests.settings.flag_page -->\n"
_END: Final = "<!-- end of the flags -->\n"


def etcd_defaults() -> dict[str, str]:
    """Every flag that the installed etcd's help lists, with the default that it shows."""
    listing = subprocess.run(["etcd", "--help"], capture_output=True, text=True, check=False)
    found = re.findall(r"^  --([\w-]+)(?: '(.*)'| (\S+))?$", listing.stdout + listing.stderr, re.MULTILINE)
    return {name: quoted or bare for name, quoted, bare in found if name != "version"}


def tables() -> str:
    """The tables, between their two marks."""
    return _BEGIN + "\n".join(_lines()) + "\n" + _END


def page(text: str) -> str:
    """A page with its tables as they should be."""
    before, _, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert end, f"{PAGE}: the marks around the tables are gone"
    return before + tables() + after


def _lines() -> Iterator[str]:
    yield from ("", "| flag | default | meaning |", "|---|---|---|")
    for flag in _with(Use.SETTING):
        names = ", ".join([f"`--{flag.name}`", *(f"`-{name}`" for name, of in ALIASES.items() if of == flag.name)])
        yield f"| {names} | {_default(flag)} | {_cell(flag.text)} |"
    yield from ("", "etcd's flags that are accepted and change nothing:", "")
    yield from ("| flag | passes in silence with | otherwise a line in the log says |", "|---|---|---|")
    for flag in _with(Use.ACCEPTED):
        yield f"| `--{flag.name}` | {_fine(flag)} | {_cell(flag.text)} |"
    yield from ("", "etcd's flags that are refused:", "")
    yield from ("| flag | passes in silence with | otherwise the start ends and says |", "|---|---|---|")
    for flag in _with(Use.REFUSED):
        yield f"| `--{flag.name}` | {_fine(flag)} | {_cell(flag.text)} |"
    silent = ", ".join(f"`--{flag.name}`" for flag in _with(Use.SILENT))
    yield from ("", f"etcd 0.4's that are ignored, as by etcd 2.3: {silent}.", "")


def _with(use: Use) -> Iterator[Flag]:
    return (flag for flag in FLAGS.values() if flag.use is use)


def _default(flag: Flag) -> str:
    own = f"`{flag.default}`" if flag.default else "none"
    other = ETCD_DEFAULTS.get(flag.name)
    return own if other is None else f"{own}; etcd: {f'`{other}`' if other else 'none'}"


def _fine(flag: Flag) -> str:
    return ", ".join(f"`{value}`" for value in sorted(flag.fine))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
    sys.exit(0)
