"""What every subcommand takes: where the cluster is, as whom it is asked, and how the result is printed.

Each may stand before or after the subcommand's name. Without it, etcdctl's variables count, those of v2 before those of
v3 (etcd v3.4.23: etcdctl/ctlv2/command/util.go, `getPeersFlagValue`, `getTransport`).
"""

import getpass
import math
import os
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn, final
from urllib.parse import urlsplit

import click

from kvraft.client import Client
from kvraft.commands.exits import Exit, Failure

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:2379"
TIMEOUT_S: Final = 5.0
"""For an answer of one endpoint, as etcdctl's `--total-timeout`."""
VARIABLES: Final = {
    "endpoints": ("ETCDCTL_ENDPOINTS", "ETCDCTL_ENDPOINT", "ETCDCTL_PEERS"),
    "cacert": ("ETCDCTL_CA_FILE", "ETCDCTL_CACERT"),
    "cert": ("ETCDCTL_CERT_FILE", "ETCDCTL_CERT"),
    "key": ("ETCDCTL_KEY_FILE", "ETCDCTL_KEY"),
    "user": ("ETCDCTL_USERNAME", "ETCDCTL_USER"),
}
"""The first that is set and not empty counts."""
PASSWORD: Final = "ETCDCTL_PASSWORD"  # noqa: S105 -- the name of a variable


@final
class Text(click.ParamType[str]):
    """What is written into a file or request: UTF-8, which an argument need not be."""

    name = "text"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        """The text."""
        if not is_utf8(value):
            self.fail("it is no text in UTF-8", parameter, context)
        return str(value)


@final
class Seconds(click.FloatRange):
    """A number of seconds that comes to its end; Python reads `inf` and `nan`, too."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, parameter, context)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number of seconds", parameter, context)
        return number


def is_utf8(text: str) -> bool:
    """Whether it was; Python keeps other bytes as halves of characters."""
    return not any("\ud800" <= each <= "\udfff" for each in text)


@final
class Given:
    """The values of these options on one command line."""

    def __init__(self, environment: Mapping[str, str], prefix: str = "--") -> None:
        self.values: Final[dict[str, Any]] = {}
        """By name, those that were given."""
        self._environment = environment
        self._prefix = prefix

    def text(self, name: str) -> tuple[str, str]:
        """A value and how its giver would know it: `--cacert` or `ETCDCTL_CA_FILE`; two empty texts without one."""
        if self.values.get(name):
            return self.values[name], f"{self._prefix}{name}"
        for variable in VARIABLES[name]:
            if self._environment.get(variable):
                return self._environment[variable], variable
        return "", ""

    def client(self, endpoints: Sequence[str] = (), timeout_s: float | None = None) -> Client:
        """A client as these options say, or of other endpoints.

        Raises:
            Failure: an endpoint, a file or the user cannot be used.
        """
        wait_s = timeout_s or self.values.get("timeout") or TIMEOUT_S
        urls = [self.endpoint(text) for text in endpoints] or self.endpoints()
        is_tls = any(url.startswith("https:") for url in urls)
        return Client(urls, tls=self._tls() if is_tls else None, user=self._user(), timeout_s=wait_s)

    def endpoints(self) -> list[str]:
        """The cluster's URLs.

        Raises:
            Failure: one of them is none.
        """
        text, source = self.text("endpoints")
        if not text:
            return [DEFAULT_ENDPOINT]
        urls = [self.endpoint(part, source) for part in text.split(",") if part.strip()]
        if not urls:
            raise Failure(f"{source}={text}: names no endpoint: write http://HOST:PORT", Exit.WRONG_ARGUMENTS)
        return urls

    def endpoint(self, text: str, source: str = "") -> str:
        """`http://HOST:PORT` of what somebody typed; as etcdctl does, a missing scheme is filled in.

        Raises:
            Failure: it is no endpoint.
        """
        url = text.strip()
        if "://" not in url:
            has_files = any(self.text(name)[0] for name in ("cacert", "cert"))
            url = f"{'https' if has_files else 'http'}://{url}"
        try:
            parts = urlsplit(url)
            is_good = parts.scheme in {"http", "https"} and bool(parts.port)
            (parts.hostname or ".").encode("idna")  # as the system is asked for it
        except ValueError:
            is_good = False
        if not is_good or "\\" in url or parts.path.strip("/") or parts.query or "@" in parts.netloc:
            name = f"{source}={text}" if source else repr(text)
            raise Failure(f"{name}: no endpoint: write http://HOST:PORT or https://HOST:PORT", Exit.WRONG_ARGUMENTS)
        return f"{parts.scheme}://{parts.netloc}"

    def _tls(self) -> ssl.SSLContext:
        """Trust and certificate for https endpoints."""
        ca_file, ca_source = self.text("cacert")
        with _Telling(ca_source, ca_file):
            context = ssl.create_default_context(cafile=ca_file or None)
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as Go: each certificate of the file is an anchor
        cert_file, cert_source = self.text("cert")
        key_file, key_source = self.text("key")
        if bool(cert_file) != bool(key_file):
            missing = "key" if cert_file else "cert"
            text = (
                f"{cert_source or key_source}: a certificate and its key go together: give {self._prefix}{missing} too"
            )
            raise Failure(text, Exit.WRONG_ARGUMENTS)
        if cert_file:
            for source, file in ((cert_source, cert_file), (key_source, key_file)):
                _must_be_readable(source, file)
            with _Telling(f"{cert_source} and {key_source}", f"{cert_file}, {key_file}"):
                context.load_cert_chain(cert_file, key_file, password=_no_passphrase(key_source))
        return context

    def _user(self) -> tuple[str, str] | None:
        """Name and password, which is asked for on a terminal."""
        text, source = self.text("user")
        if not text:
            return None
        name, colon, password = text.partition(":")
        if not colon:
            password = self._environment.get(PASSWORD, "") or _ask_password(name, source, self._prefix)
        if not name:
            raise Failure(f"{source}: a name is missing: write NAME:PASSWORD", Exit.WRONG_ARGUMENTS)
        if not is_utf8(name + password):
            raise Failure(f"{source}: name and password are texts in UTF-8", Exit.WRONG_ARGUMENTS)
        return name, password


@final
class _Telling:
    """Makes one line of what OpenSSL and the system say about a file."""

    def __init__(self, source: str, file: str) -> None:
        self._source = source
        self._file = file

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        """What went wrong, by the name of the option."""
        if isinstance(error, ssl.SSLError):
            reason = (error.reason or "cannot be used").replace("_", " ").lower()
            text = f"{self._source}={self._file}: {reason}: a PEM file is needed"
            raise Failure(text, Exit.WRONG_ARGUMENTS) from None
        if isinstance(error, OSError):
            text = (
                f"{self._source}={self._file}: {(error.strerror or str(error)).lower()}: give a file that can be read"
            )
            raise Failure(text, Exit.WRONG_ARGUMENTS) from None


def _must_be_readable(source: str, file: str) -> None:
    with _Telling(source, file):
        os.close(os.open(file, os.O_RDONLY))


def _no_passphrase(source: str) -> Callable[[], str]:
    def refuse() -> NoReturn:
        text = f"{source}: it has a passphrase, which cannot be asked for: write it without one"
        raise Failure(text, Exit.WRONG_ARGUMENTS)

    return refuse


def _ask_password(name: str, source: str, prefix: str) -> str:
    if not sys.stdin.isatty():
        variable = f", or set {PASSWORD}" if prefix == "--" else ""
        text = f"{source}: the password of {name} is missing: write NAME:PASSWORD{variable}"
        raise Failure(text, Exit.WRONG_ARGUMENTS)
    return getpass.getpass(f"Password of {name}: ", sys.stderr)


def global_options() -> list[click.Parameter]:
    """The options themselves, for a command of click's; they put what they get into the `Call` of the command line."""

    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is not None and value is not False and parameter.name:
            context.obj.given.values[parameter.name] = value
            if parameter.name == "json":
                context.obj.out.is_json = True

    def option(name: str, text: str, **settings: Any) -> click.Option:
        variables = VARIABLES.get(name, ())
        if variables:
            text += f" Or {', '.join(variables)}."
        return click.Option([f"--{name}"], help=text, expose_value=False, callback=keep, **settings)

    file = click.Path()
    return [
        option("endpoints", f"Members to ask, in turn. Default: {DEFAULT_ENDPOINT}.", metavar="URL,..."),
        option("cacert", "CA, in PEM, by which servers are verified.", metavar="FILE", type=file),
        option("cert", "Certificate, in PEM, to be shown to servers.", metavar="FILE", type=file),
        option("key", "Its key, in PEM.", metavar="FILE", type=file),
        option(
            "user",
            f"Who asks. Without a password, {PASSWORD} counts, or it is asked for on a terminal; other users of this "
            "host can see what stands on a command line.",
            metavar="NAME[:PASSWORD]",
        ),
        option(
            "timeout",
            f"Wait so long for an endpoint's answer. Default: {TIMEOUT_S:g}.",
            metavar="SECONDS",
            type=Seconds(min=0, min_open=True),
        ),
        option("json", "Print JSON, one value a line.", is_flag=True),
    ]
