"""Command line and environment, read as etcd reads them: Go's flag syntax, then `ETCD_*` for what no flag gave.

The result is text with its source; `settings.py` makes settings of it. Sources: Go's package flag, and etcd v3.4.23
pkg/flags/flag.go (`SetFlagsFromEnv`).
"""

import collections
import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

from kvraft.settings.flag_table import ALIASES, BESIDE_CONFIG_FILE, FLAGS, Flag, Use

_PREFIX: Final = "ETCD_"
_NEVER_EMPTY: Final = frozenset({"name", "initial-cluster", "join", "replace"})
"""Without them a member founds a cluster of its own, or replaces nobody: not what a script meant whose variable is
empty. Where data or discovery tells all that, they say nothing, as in etcd."""
TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
"""Go's strconv.ParseBool."""
_PASSWORD: Final = re.compile(r"(//[^/@:\s]*):[^/@\s]*@")
FALSE: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})


class SettingsError(Exception):
    """A setting that kvraft cannot start with. The text is one line: the flag, its value, what is wrong, the remedy."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Value:
    """What somebody gave for a flag."""

    text: str
    source: str
    """As it would be typed again: `--name=n1` or `ETCD_NAME=n1`."""

    @property
    def shown(self) -> str:
        """The source on one line, without a password that a URL in it has."""
        return one_line(_PASSWORD.sub(r"\1:...@", self.source))

    def error(self, problem: str) -> SettingsError:
        """The error that names this value."""
        return SettingsError(f"{self.shown}: {one_line(problem)}")


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Given:
    """The settings that were given, by flag name, and what the log should say about the others."""

    values: Mapping[str, Value]
    notices: tuple[str, ...]
    """One line for each flag without effect and each variable that nobody reads."""
    empty: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    """What was given without a text and needs one wherever it counts. Not among the values."""

    def is_on(self, switch: str, *, default: bool = False) -> bool:
        """Whether a switch is true, or the default if it was not given."""
        value = self.values.get(switch)
        return default if value is None else value.text in TRUE

    def refuse_empty(self, *flags: str) -> None:
        """These count here: none of them may be empty.

        Raises:
            SettingsError: one is.
        """
        for value in (self.empty[flag] for flag in flags if flag in self.empty):
            raise value.error("it is empty, as from a variable that is not set: give a value, or leave the flag out")

    def error(self, problem: str, *flags: str) -> SettingsError:
        """The error that names the value of the first of these flags that was given; otherwise the last of them."""
        value = next((self.values[flag] for flag in flags if flag in self.values), Value("", f"--{flags[-1]}"))
        return value.error(problem)


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Given:
    """Read a command line (without the program's name) and the environment.

    Raises:
        SettingsError: a flag is unknown, incomplete or refused, or an argument is no flag.
    """
    given = _from_arguments(arguments)
    notices = []
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_PREFIX) or not text:
            continue
        flag = named(variable.removeprefix(_PREFIX).lower().replace("_", "-"))
        if flag is None or variable != variable.upper():
            meant = alike(variable.removeprefix(_PREFIX).lower().replace("_", "-"))
            hint = f": did you mean {_PREFIX}{meant.upper().replace('-', '_')}?" if meant else ""
            notices.append(f"{one_line(variable)} is not a variable that kvraft reads{hint}")
        elif flag.use is not Use.SILENT and flag.name not in given:
            given[flag.name] = checked(flag, Value(text, f"{variable}={text}"))
    file = given.get("config-file")
    if file is not None and file.text:
        return _beside_a_file(given, file, notices)
    return weighed(given, notices)


def weighed(given: Mapping[str, Value], notices: Iterable[str]) -> Given:
    """What becomes of each value: a setting, a line in the log, nothing, or the end of the start.

    Raises:
        SettingsError: a flag is refused.
    """
    values, empty, notices = {}, {}, list(notices)
    for name, value in given.items():
        flag = FLAGS[name]
        if name in _NEVER_EMPTY and not value.text.strip():
            empty[name] = value
        elif flag.use is Use.SETTING:
            values[name] = value
        elif not _asks_for_nothing(flag, value.text):
            if flag.use is Use.REFUSED:
                raise value.error(flag.text)
            if flag.use is Use.ACCEPTED:
                notices.append(f"{value.shown} has no effect: {flag.text}")
    return Given({name: value for name, value in values.items() if value.text}, tuple(notices), empty)


def help_text() -> str:
    """What `--help` prints about the flags."""
    lines = [
        "Each flag may also be set as ETCD_ and its name in capitals; a flag wins.",
        "",
    ]
    for flag in FLAGS.values():
        if flag.use is Use.SETTING:
            lines.append(f"  --{flag.name} {flag.default and repr(flag.default)}".rstrip())
            lines.append(f"      {flag.text}")
    accepted = ", ".join(sorted(flag.name for flag in FLAGS.values() if flag.use is Use.ACCEPTED))
    refused = ", ".join(sorted(flag.name for flag in FLAGS.values() if flag.use is Use.REFUSED))
    lines += ["", f"etcd's flags without effect: {accepted}", "", f"etcd's flags that are refused: {refused}"]
    return "\n".join(lines) + "\n"


def _beside_a_file(given: Mapping[str, Value], file: Value, notices: Iterable[str]) -> Given:
    """What counts beside a configuration file, as etcd has it: nothing but what asks for a deed."""
    kept = {name: value for name, value in given.items() if name in BESIDE_CONFIG_FILE and value.text}
    ignored = ", ".join(value.shown for name, value in given.items() if name not in BESIDE_CONFIG_FILE)
    lines = [f"{file.shown} is all that is read, as by etcd: {ignored} changes nothing"] if ignored else []
    return Given(kept, (*notices, *lines))


def named(name: str) -> Flag | None:
    """The flag of a name, or of another spelling of it."""
    return FLAGS.get(ALIASES.get(name, name))


def _from_arguments(arguments: Sequence[str]) -> dict[str, Value]:
    given: dict[str, Value] = {}
    remaining = collections.deque(arguments)
    while remaining:
        argument = remaining.popleft()
        if argument == "--":
            _refuse_more(remaining)
            break
        if not argument.startswith("-") or argument == "-":
            raise SettingsError(
                f"{one_line(argument)!r} is not a flag: give flags only, as in --name=n1; kvraft --help lists them"
            )
        word, equals, text = argument.removeprefix("-").removeprefix("-").partition("=")
        if not word or word.startswith("-"):
            raise SettingsError(f"{one_line(argument)}: bad flag syntax: write --name=value")
        flag = named(word)
        if flag is None:
            meant = alike(word)
            hint = f"did you mean --{meant}? Otherwise see kvraft --help" if meant else "see kvraft --help"
            raise SettingsError(f"--{one_line(word)}: flag provided but not defined: {hint}")
        if flag.use is Use.SILENT:
            # Whatever it is given as. To etcd 2.3 each is a switch, in etcd 0.4 some had a word behind them.
            if not (equals or flag.is_switch) and remaining and not remaining[0].startswith("-"):
                remaining.popleft()
            continue
        if not equals:
            text = "true" if flag.is_switch else _next(remaining, argument)
        given[flag.name] = checked(flag, Value(text, f"--{word}={text}"))
    return given


def _refuse_more(remaining: Sequence[str]) -> None:
    """Go reads no flag after `--`; nothing may stand there."""
    if remaining:
        raise SettingsError(f"{one_line(remaining[0])!r} stands after --, where no flags are read: leave the -- out")


def _next(remaining: "collections.deque[str]", argument: str) -> str:
    if not remaining:
        raise SettingsError(f"{one_line(argument)}: flag needs an argument: write {one_line(argument)}=value")
    return remaining.popleft()


def checked(flag: Flag, value: Value) -> Value:
    """The value, if a flag may have it at all.

    Raises:
        SettingsError: a switch has none of Go's words for a truth value.
    """
    if flag.is_switch and value.text not in TRUE | FALSE:
        raise value.error("invalid boolean value: use true or false")
    return value


def alike(word: str) -> str | None:
    """The flag that was probably meant."""
    close = difflib.get_close_matches(word, [name for name, flag in FLAGS.items() if flag.use is Use.SETTING], 1)
    return close[0] if close else None


def _asks_for_nothing(flag: Flag, text: str) -> bool:
    if flag.is_switch:
        text = "true" if text in TRUE else "false"
    return not text or text in flag.fine


def one_line(text: str) -> str:
    """The text without line breaks and other control characters, which a value may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
