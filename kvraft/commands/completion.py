"""`kvraft completion`: what makes a shell complete subcommands, their options, and the server's flags."""

from typing import Final

import click
from click.shell_completion import get_completion_class

from kvraft.commands import root, table
from kvraft.commands.calls import Call, subcommand
from kvraft.settings.flag_table import FLAGS, Use

SHELLS: Final = ("bash", "zsh", "fish")
_FILE_ENDINGS: Final = ("-dir", "-file")


@subcommand()
@click.argument("shell", type=click.Choice(SHELLS))
def command(call: Call, shell: str) -> None:
    """Print what makes a shell complete kvraft's command line.

    bash: kvraft completion bash > /etc/bash_completion.d/kvraft

    zsh: kvraft completion zsh > "${fpath[1]}/_kvraft"

    fish: kvraft completion fish > ~/.config/fish/completions/kvraft.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    completion = kind(root.command(), {}, "kvraft", table.COMPLETING)
    # `source()` would start bash to ask for its version, of which the first that cannot do it is from 2014.
    script = completion.source_template % completion.source_vars()
    if call.out.is_json:
        call.out.json({"shell": shell, "script": script})
    else:
        click.echo(script)


def server_flags() -> list[click.Parameter]:
    """The server's flags as options, for the shell that completes them; nothing is ever read by these."""
    return [
        click.Option(
            [f"--{flag.name}"],
            help=flag.text,
            is_flag=flag.is_switch,
            type=None if flag.is_switch else click.Path() if flag.name.endswith(_FILE_ENDINGS) else str,
        )
        for flag in FLAGS.values()
        if flag.use is Use.SETTING and flag.name != "help"
    ]
