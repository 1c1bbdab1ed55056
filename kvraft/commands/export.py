"""`kvraft export`: a cluster's keys, users and roles as JSON lines, for `kvraft import` and for whoever reads JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from kvraft.commands.calls import Call, subcommand
from kvraft.commands.exits import Exit, must_be_a_file, of_file
from kvraft.commands.import_ import failing
from kvraft.commands.import_arguments import hidden_path
from kvraft.migration import json_lines
from kvraft.migration.etcd_directory import read_directory
from kvraft.migration.hidden_names import hidden_if_told
from kvraft.migration.reading import read_cluster
from kvraft.migration.writing import Patience
from kvraft.storage.whole_file import whole_file

PATIENCE_S: Final = 5.0
"""For a copy that the member cannot make now; all else is asked for once."""


@subcommand()
@click.argument("file", default="-")
@click.option(
    "--from-data-dir", "directory", metavar="DIR", help="Of a stopped etcd (2.x or 3.x), instead of a cluster."
)
@click.option("--wal-dir", metavar="DIR", help="Where that etcd had its log, if it had --wal-dir.")
@click.option("--hidden", multiple=True, metavar="KEY", help="This hidden key too, with all below it. Repeatable.")
async def command(call: Call, file: str, directory: str | None, wal_dir: str | None, hidden: tuple[str, ...]) -> Exit:
    """Write a tree as JSON lines, to FILE or, with - or without FILE, to stdout.

    The first line names the format's version and the index, the last one the number of lines; between them stands one
    key, role or user a line. FILE appears when it is whole.

    Of a kvraft hidden keys are written too; a running etcd shows those alone that --hidden names.
    """
    unknown = ""
    if wal_dir is not None and directory is None:
        raise click.UsageError("--wal-dir goes with --from-data-dir")
    if file != "-":
        must_be_a_file(file)
    with failing():
        if directory is not None:
            contents = read_directory(Path(directory), Path(wal_dir) if wal_dir else None)
        else:
            tops = tuple(hidden_path(name) for name in hidden)
            async with call.client() as client:
                found, unknown = await hidden_if_told(client, Patience(PATIENCE_S, _waiting(call)))
                contents = await read_cluster(client, sorted({*tops, *found}))
                contents.notes += [unknown] if unknown else []
    for note in contents.notes:
        call.out.note(f"note: {note}")
    if file == "-":
        for line in json_lines.lines_of(contents):
            click.echo(line, nl=False)
        return _ended(unknown)
    try:
        with whole_file(Path(file)) as lines:
            lines.writelines(line.encode() for line in json_lines.lines_of(contents))
    except OSError as error:
        raise of_file(error, file) from error
    if call.out.is_json:
        call.out.json({"file": file, "keys": len(contents.nodes), "etcd_index": contents.etcd_index})
    else:
        call.out.line(f"{file}: {len(contents.nodes)} keys at index {contents.etcd_index}")
    return _ended(unknown)


def _waiting(call: Call) -> Callable[[str], None]:
    return lambda why: call.out.note(f"waiting: {why}")


def _ended(unknown: str) -> Exit:
    """As of an import: what may be missing is no success."""
    return Exit.NOT_WELL if unknown else Exit.DONE
