"""`kvraft backup`: a copy of everything, while the cluster runs."""

from pathlib import Path
from typing import Final

import click

from kvraft.backup.contents import moment
from kvraft.backup.fetching import Fetch, Fetched
from kvraft.backup.part import PartInUseError
from kvraft.commands.calls import Call, subcommand
from kvraft.commands.codes import Exit
from kvraft.commands.exits import Failure, must_be_a_file, of_file
from kvraft.storage.errors import StorageError

_BOTH: Final = 2


@subcommand()
@click.argument("places", metavar="[URL] FILE", nargs=-1, type=click.Path(), required=True)
@click.option("--history", is_flag=True, help="With all of the watch history; otherwise its newest events are in it.")
async def command(call: Call, places: tuple[str, ...], *, history: bool) -> None:
    """Fetch a copy of everything while the cluster runs.

    All keys, hidden ones too, with their indices and TTLs, users, roles and members, at one index, as one member has
    it; without a URL, one of --endpoints, a follower if there is any. Every byte is verified as it comes, and FILE
    appears, or is replaced, once all of it is on the disk. What broke off stands in FILE.<copy>.part: the same command
    goes on with it. While auth is on, it takes the role root.
    """
    if len(places) > _BOTH:
        raise click.UsageError("give a URL and a file, or a file alone")
    call.interrupted = "interrupted: the same command goes on where it was"
    path = must_be_a_file(places[-1])
    urls = [call.given.endpoint(url) for url in places[:-1]] or call.given.endpoints()
    with call.out.progress() as bars:
        task = bars.add_task(path.name, total=None)

        def show(come: int, total: int) -> None:
            bars.update(task, completed=come >> 20, total=max(total >> 20, 1))

        def wait(why: str) -> None:
            call.out.note(f"waiting: {why}")

        fetch = Fetch(call.client, urls, path, with_history=history, on_progress=show, on_wait=wait)
        try:
            fetched = await fetch.run()
        except PartInUseError as error:
            raise Failure(str(error), Exit.WRONG_ARGUMENTS) from error
        except StorageError as error:
            raise Failure(str(error)) from error
        except OSError as error:
            raise of_file(error, str(path)) from error
    _print(call, path, fetched)


def _print(call: Call, path: Path, fetched: Fetched) -> None:
    position, taken = fetched.header.position, moment(fetched.facts.taken_ns)
    if call.out.is_json:
        call.out.json(
            {
                "file": str(path),
                "copy": fetched.copy_id,
                "bytes": fetched.size_bytes,
                "endpoint": fetched.endpoint,
                "taken": taken,
                "taken_by": fetched.facts.name,
                "raft_index": position.index,
                "raft_term": position.term,
                "with_history": fetched.facts.with_history,
            }
        )
    else:
        text = f"{path}: {fetched.size_bytes} bytes of {fetched.facts.name} at index {position.index}, taken {taken}"
        call.out.line(text, "good")
