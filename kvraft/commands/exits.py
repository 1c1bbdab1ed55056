"""How a subcommand fails: its exit code, and one line that says what to do."""

import errno
import re
from pathlib import Path
from typing import Final

import click

from kvraft.client.errors import BadAnswer, BrokenOff, ClientError, EtcdError, UnknownOutcome, Unreachable
from kvraft.commands.codes import Exit

__all__ = ["Exit", "Failure", "is_expected", "must_be_a_file", "of_file", "told"]


class Failure(Exception):  # noqa: N818 -- it is what happened, as in the client's errors
    """The end of a subcommand. The text is one line that says what to do."""

    def __init__(self, text: str, exit_code: Exit = Exit.REFUSED) -> None:
        super().__init__(text)
        self.exit_code: Final = exit_code


_DISK: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Whatever else the system says of a file: the arguments name one that cannot be used."""


def of_file(error: OSError, name: str = "") -> Failure:
    """What the system says of a file; `name` is for errors that name none, as those of writes."""
    exit_code = Exit.REFUSED if error.errno in _DISK or error.errno is None else Exit.WRONG_ARGUMENTS
    return Failure(f"{error.filename or name}: {error.strerror or error}", exit_code)


def must_be_a_file(name: str) -> Path:
    """Where a file of this name is to be written, before anybody is asked for what goes into it.

    Raises:
        Failure: something else stands there, or there is no directory for it.
    """
    from kvraft.storage.whole_file import place_of  # noqa: PLC0415 -- it brings LMDB

    try:
        return place_of(Path(name))
    except OSError as error:
        raise of_file(error, name) from error


_OF_BOTH: Final = re.compile(r"--(?=(?:user|cacert|cert|key)\b)")
"""What is given for an import's source by another name."""
_REMEDIES: Final = (
    ("not trusted", "give its CA with --cacert"),
    ("certificate required", "give --cert and --key"),
    ("unknown ca", "the server does not trust the CA of --cert"),
    ("bad certificate", "the server does not accept the certificate of --cert"),
    ("wrong version number", "the server does not speak TLS there: write http://"),
    ("record layer failure", "the server does not speak TLS there: write http://"),
    ("does not speak http", "if TLS is spoken there, write https://"),
    ("closed without an answer", "if TLS is spoken there, write https://"),
    ("connection reset", "if TLS is spoken there, write https://"),
    ("cannot find the host", "look at the spelling"),
    ("no answer within", "the member may be overloaded; --timeout waits longer"),
    ("", "is a member running there? --endpoints names others"),
)
"""What a reason has in it, and what to do about it; the first that fits counts."""


def told(error: Exception, *, of_source: bool = False) -> tuple[str, Exit]:
    """The line and the exit code of what a subcommand raised; only what `is_expected` knows.

    `of_source`: what an import copies from says it, so that other options are the remedy.
    """
    text, exit_code = _told(error)
    said = str(error)
    if of_source and text.startswith(said):
        remedy = _OF_BOTH.sub("--from-", text[len(said) :]).replace("--endpoints names", "--from names")
        text = said + remedy.replace(", or set ETCDCTL_USERNAME, of", " of")
    return text, exit_code


def _told(error: Exception) -> tuple[str, Exit]:
    match error:
        case Failure():
            return str(error), error.exit_code
        case click.ClickException():
            return _usage(error), Exit.WRONG_ARGUMENTS
        case Unreachable():
            return f"{error}: {_remedy(error.reasons[0])}", Exit.NO_SERVER
        case UnknownOutcome():
            return f"{error}: look before doing it again", Exit.UNKNOWN
        case BadAnswer() | BrokenOff():
            return str(error), Exit.NO_SERVER
        case EtcdError():
            return _refusal(error)
        case _:
            assert isinstance(error, ValueError), "somebody knows every error but an endpoint that is none"
            return f"--endpoints: {error}", Exit.WRONG_ARGUMENTS


def is_expected(error: Exception) -> bool:
    """Whether `told` knows it; anything else is a bug of ours and wants its traceback."""
    return isinstance(error, Failure | click.ClickException | ClientError)


def _remedy(reason: str) -> str:
    return next(remedy for part, remedy in _REMEDIES if part in reason.lower())


def _refusal(error: EtcdError) -> tuple[str, Exit]:
    if "HTTP request to an HTTPS server" in error.message:  # as Go says it, hence etcd and kvraft
        return "the server speaks TLS there: write https://", Exit.NO_SERVER
    if "404 page not found" in error.message:  # the same
        text = "something without the v2 API answers there: give a member's client URL; etcd 3 needs --enable-v2"
        return text, Exit.NO_SERVER
    if error.status == 401 or error.code == 110:
        text = f"{error}: give --user NAME:PASSWORD, or set ETCDCTL_USERNAME, of a user that may do that"
        return text, Exit.NOT_ALLOWED
    if error.status == 403:
        return f"{error}: it takes a user with the role for it", Exit.NOT_ALLOWED
    return f"the server refused: {error}", Exit.REFUSED


def _usage(error: click.ClickException) -> str:
    """Click's sentence, and where the help is."""
    sentence = " ".join(error.format_message().rstrip(".").split())
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "kvraft"
    return f"{sentence}: see {path} --help"
