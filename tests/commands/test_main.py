"""What all subcommands have in common: help, wrong arguments, failures, and who imports what."""

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from kvraft.commands import root, table
from kvraft.commands.codes import MEANINGS, Exit
from kvraft.commands.options import global_options
from kvraft.commands.output import Output
from kvraft.settings.flag_table import FLAGS
from kvraft.testing import ports
from tests.api_v2.conftest import Served
from tests.commands.conftest import Background, Run


def every_command() -> Iterator[tuple[str, ...]]:
    """Each subcommand, as it is typed, with those of two words."""
    for name in table.SUBCOMMANDS:
        yield (name,)
        command = root.command().get_command(click.Context(root.command()), name)
        if isinstance(command, click.Group):
            yield from ((name, below) for below in command.commands)


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_subcommand_has_help_and_the_global_options(run: Run, words: tuple[str, ...]) -> None:
    """What it does in a sentence, and how the cluster is named."""
    ran = run(*words, "--help")
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert ran.stdout.startswith(f"Usage: kvraft {' '.join(words)} ")
    assert ran.stdout.split("\n\n")[1].rstrip().endswith(".")
    for option in table.GLOBAL_OPTIONS:
        assert option in ran.stdout


@pytest.mark.parametrize("words", list(every_command()), ids=" ".join)
def test_every_subcommand_refuses_an_unknown_option_in_one_line(run: Run, words: tuple[str, ...]) -> None:
    """Which one, and where the help is."""
    ran = run(*words, "--nonsense")
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, "")
    assert ran.stderr.startswith("kvraft: No such option '--nonsense'")
    assert ran.stderr.endswith(f": see kvraft {' '.join(words)} --help\n")
    assert ran.stderr.count("\n") == 1


def test_global_options_are_no_flags_of_the_server() -> None:
    """So that a command line which begins with one is a subcommand's."""
    assert {name.removeprefix("--") for name in table.GLOBAL_OPTIONS} & set(FLAGS) == set()
    options = {option for parameter in global_options() for option in parameter.opts}
    assert options == set(table.GLOBAL_OPTIONS)


def test_names_that_call_a_subcommand() -> None:
    """Its name, one that is nearly so, and the global options; everything else is the server's, which knows flags."""
    assert table.is_called(["member"])
    assert table.is_called(["memeber", "list"])
    assert table.is_called(["--endpoints=http://h:1", "member"])
    assert table.is_called(["--json"])
    for words in ([], ["--name", "member"], ["--name=n1"], ["gateway"], [""], ["-"], ["--help"], ["-json"]):
        assert not table.is_called(words), words


def test_mistyped_subcommand_is_told_what_was_meant(run: Run) -> None:
    """And an unknown one which there are."""
    assert run("memeber").stderr == "kvraft: 'memeber' is no subcommand: did you mean member?: see kvraft --help\n"
    unknown = run("--json", "gateway")
    assert unknown.exit_code == Exit.WRONG_ARGUMENTS
    assert "'gateway' is no subcommand: there are " in unknown.stderr
    assert "member" in unknown.stderr


def test_help_of_the_server_lists_the_subcommands() -> None:
    """One page for both."""
    ended = subprocess.run([sys.executable, "-m", "kvraft", "--help"], capture_output=True, text=True, check=True)
    for entry in table.SUBCOMMANDS.values():
        assert f"  {entry.name} " in ended.stdout
        assert entry.summary in ended.stdout
    assert "--data-dir" in ended.stdout


def test_every_exit_code_is_explained() -> None:
    """In the words of help and man page."""
    assert set(MEANINGS) == set(Exit)


def test_no_server_is_one_line_that_says_what_to_do(run: Run) -> None:
    """Every endpoint with its reason."""
    reservation = ports.reserve(2)
    urls = [f"http://127.0.0.1:{port}" for port in reservation.ports]
    ran = run("member", "list", f"--endpoints={','.join(urls)}")
    reservation.release()
    assert (ran.exit_code, ran.stdout) == (Exit.NO_SERVER, "")
    reasons = "; ".join(f"{url}: connection refused" for url in urls)
    assert ran.stderr == f"kvraft: {reasons}: is a member running there? --endpoints names others\n"


@pytest.mark.parametrize("variable", ["ETCDCTL_ENDPOINTS", "ETCDCTL_ENDPOINT", "ETCDCTL_PEERS"])
def test_variables_of_etcdctl_name_the_cluster(run: Run, served: Served, variable: str) -> None:
    """Without an option; an option wins, before or after the subcommand."""
    address = served.url.removeprefix("http://")
    assert run("member", "list", environment={variable: f"{address},http://127.0.0.1:1"}).exit_code == Exit.DONE
    wrong = {variable: "http://127.0.0.1:1"}
    assert run("member", "list", environment=wrong).exit_code == Exit.NO_SERVER
    assert run("member", "list", "--endpoints", served.url, environment=wrong).exit_code == Exit.DONE
    assert run("--endpoints", served.url, "member", "list", environment=wrong).exit_code == Exit.DONE
    assert run("member", "--endpoints", served.url, "list", environment=wrong).exit_code == Exit.DONE


@pytest.mark.parametrize("text", ["nonsense", "http://h", "ftp://h:1", "http://h:1/v2", "http://u:p@h:1", "http://h:x"])
def test_endpoint_that_is_none_is_named(run: Run, text: str) -> None:
    """With where it came from."""
    ran = run("member", "list", environment={"ETCDCTL_ENDPOINT": text})
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert ran.stderr.startswith(f"kvraft: ETCDCTL_ENDPOINT={text}: no endpoint: write http://HOST:PORT"), ran.stderr


@pytest.mark.parametrize("option", ["cacert", "cert", "key"])
def test_file_that_cannot_be_used_is_named(run: Run, tmp_path: pathlib.Path, option: str) -> None:
    """Missing, and no PEM."""
    (tmp_path / "text").write_text("no certificate")
    for file, problem in (("none", "no such file"), ("text", "pem")):
        others = [f"--{other}={tmp_path}/text" for other in ("cert", "key") if option not in {other, "cacert"}]
        ran = run("member", "list", "--endpoints=https://127.0.0.1:1", f"--{option}={tmp_path}/{file}", *others)
        assert ran.exit_code == Exit.WRONG_ARGUMENTS
        assert f"--{option}" in ran.stderr
        assert problem in ran.stderr.lower()
        assert ran.stderr.count("\n") == 1


def test_certificate_without_its_key_is_told(run: Run) -> None:
    """Which of the two is missing."""
    ran = run("member", "list", "--endpoints=https://127.0.0.1:1", environment={"ETCDCTL_CERT_FILE": "x"})
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert "ETCDCTL_CERT_FILE: a certificate and its key go together: give --key too" in ran.stderr


def test_user_without_a_password_is_told_where_nobody_can_be_asked(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script has no terminal."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    ran = run("member", "list", "--user=root", f"--endpoints={served.url}")
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert "the password of root is missing" in ran.stderr
    alone = {"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": "secret"}
    assert run("member", "list", f"--endpoints={served.url}", environment=alone).exit_code == Exit.DONE


def test_something_else_than_etcd_is_one_line(run: Run, served: Served) -> None:
    """As when TLS is forgotten."""
    ran = run("member", "list", "--endpoints", served.url.replace("http:", "https:"))
    assert ran.exit_code == Exit.NO_SERVER
    assert ran.stderr.endswith(": the server does not speak TLS there: write http://\n")


def test_json_is_one_value_a_line(run: Run, served: Served) -> None:
    """For programs."""
    ran = run("--json", "member", "list", "--endpoints", served.url)
    (member,) = json.loads(ran.stdout)
    assert (member["name"], member["isLeader"]) == ("g", True)
    assert ran.stdout.count("\n") == 1


def test_reader_that_stops_is_no_error() -> None:
    """`kvraft completion bash | head -1` ends like any other program that is written to a closed pipe."""
    command = f"{sys.executable} -m kvraft completion bash; echo $? >&2"
    ended = subprocess.run(
        ["bash", "-c", f"({command}) | true"], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stderr.strip() in {"0", str(int(Exit.NOBODY_READS))}


def test_reader_that_stops_is_told_from_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are rich's, which ends the process with 1, as wrong arguments do."""
    reader, writer = os.pipe()
    os.close(reader)
    nobody_reads = os.fdopen(writer, "w", encoding="utf-8")
    monkeypatch.setattr("sys.stdout", nobody_reads)
    with pytest.raises(BrokenPipeError):
        Output().line("a line that nobody reads")
    with contextlib.suppress(BrokenPipeError):  # of what it still holds
        nobody_reads.close()


def test_server_without_the_api_is_told(run: Run, background: Background) -> None:
    """As at a peer port, or at an etcd 3 without --enable-v2, which say so in Go's words."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n")
        writer.close()

    server = background.do(asyncio.start_server(refuse, "127.0.0.1", 0))
    ran = run("member", "list", f"--endpoints=127.0.0.1:{server.sockets[0].getsockname()[1]}")
    background.loop.call_soon_threadsafe(server.close)
    assert (ran.exit_code, ran.stdout) == (Exit.NO_SERVER, "")
    assert "give a member's client URL; etcd 3 needs --enable-v2" in ran.stderr


def test_closed_standard_streams_are_no_traceback(served: Served) -> None:
    """A cron job may have none of the three."""
    command = f"{sys.executable} -m kvraft member list --endpoints {served.url} <&- >&- 2>&-"
    ended = subprocess.run(["bash", "-c", command], check=False, timeout=60)
    assert ended.returncode == Exit.DONE


def test_full_disk_is_told(served: Served) -> None:
    """What could not be written is not called done."""
    command = f"{sys.executable} -m kvraft member list --json --endpoints {served.url} > /dev/full"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == Exit.REFUSED
    assert ended.stderr == "kvraft: stdout: No space left on device\n"
