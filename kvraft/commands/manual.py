"""The man page: made of what `--help` shows, so that neither can say what the other does not.

`python -m kvraft.commands.manual > man/kvraft.1` writes it; a test compares.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import click

from kvraft.commands import root, table
from kvraft.commands.codes import MEANINGS
from kvraft.commands.options import PASSWORD, VARIABLES, global_options
from kvraft.settings.flag_table import FLAGS, Use

_HEAD: Final = r""".\" Made by kvraft.commands.manual of what --help shows.
.TH KVRAFT 1 "" kvraft "User Commands"
.SH NAME
kvraft \- a key-value store replicated by Raft that speaks the etcd v2 HTTP API
.SH SYNOPSIS
.B kvraft
.RI [ flags ]
.br
.B kvraft
.I SUBCOMMAND
.RI [ options ]
.SH DESCRIPTION
Without a subcommand kvraft is a member of a cluster, and takes etcd's flags.
With one it looks at a cluster, changes it, or works on its data; etcdctl's variables are understood.
.PP
Words that begin with a capital letter or stand in capitals below are what is to be filled in."""


def page() -> str:
    """The page in roff's language."""
    return "\n".join([_HEAD, *_subcommands(), *_every(), *_flags(), *_environment(), *_exits(), _SEE_ALSO]) + "\n"


_SEE_ALSO: Final = r""".SH SEE ALSO
.BR etcdctl (1)"""


def _subcommands() -> Iterator[str]:
    yield ".SH SUBCOMMANDS"
    top = root.command()
    with click.Context(top, info_name="kvraft") as context:
        for name in table.SUBCOMMANDS:
            command = top.get_command(context, name)
            assert command is not None, "the table names what there is"
            with click.Context(command, info_name=name, parent=context) as inner:
                if not isinstance(command, click.Group):
                    yield from _command(command, inner)
                    continue
                for below in command.commands.values():
                    yield from _command(below, click.Context(below, info_name=below.name, parent=inner))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    yield f'.SS "{escaped(" ".join([context.command_path, *pieces]))}"'
    assert command.help, "the docstring is the help"
    for number, paragraph in enumerate(re.split(r"\n\s*\n", command.help)):
        yield from [".PP"] * (number > 0)
        yield escaped(" ".join(paragraph.split()))
    everywhere = set(table.GLOBAL_OPTIONS)
    yield from _options(option for option in command.params if not everywhere & set(option.opts))


def _every() -> Iterator[str]:
    yield ".SH OPTIONS OF EVERY SUBCOMMAND"
    yield "They may stand before or after its name."
    yield from _options(global_options())


def _options(parameters: Iterable[click.Parameter]) -> Iterator[str]:
    for option in parameters:
        if not isinstance(option, click.Option):
            continue
        yield ".TP"
        value = "" if option.is_flag else f"={option.metavar or 'VALUE'}"
        yield rf"\fB{escaped(', '.join(option.opts))}\fR{escaped(value)}"
        yield escaped(option.help or "")
        if option.show_default:
            default = option.default
            yield escaped(f"Default: {f'{default:g}' if isinstance(default, float) else default}.")


def _flags() -> Iterator[str]:
    yield ".SH FLAGS OF A MEMBER"
    yield "Each may also be set as ETCD_ and its name in capitals; a flag wins."
    for flag in FLAGS.values():
        if flag.use is Use.SETTING:
            yield ".TP"
            yield rf"\fB{escaped('--' + flag.name)}\fR" + (escaped(f"={flag.default}") if flag.default else "")
            yield escaped(flag.text)
    for use, title in ((Use.ACCEPTED, "Flags of etcd without effect"), (Use.REFUSED, "Flags of etcd that are refused")):
        names = ", ".join(sorted(flag.name for flag in FLAGS.values() if flag.use is use))
        yield ".PP"
        yield escaped(f"{title}: {names}.")


def _environment() -> Iterator[str]:
    yield ".SH ENVIRONMENT"
    yield "For subcommands, where an option was not given; the first that is set counts."
    for option, variables in VARIABLES.items():
        yield ".TP"
        yield rf"\fB{escaped(', '.join(variables))}\fR"
        yield escaped(f"For --{option}.")
    yield ".TP"
    yield rf"\fB{PASSWORD}\fR"
    yield escaped("The password, where --user has none.")
    yield ".TP"
    yield r"\fBNO_COLOR\fR"
    yield "If it is set, nothing is coloured; into a file or pipe nothing ever is."


def _exits() -> Iterator[str]:
    yield ".SH EXIT STATUS"
    yield "Of a member: 0 after an ordered stop or when it was removed, 1 if it could not start or go on."
    yield "Of subcommands:"
    for code, meaning in MEANINGS.items():
        yield ".TP"
        yield rf"\fB{int(code)}\fR"
        yield escaped(meaning)


def escaped(text: str) -> str:
    """A text that roff prints as it is: minus signs that can be copied, and no line that is a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
    return rf"\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    sys.stdout.write(page())
