"""The steps of a sequence, and what they become on the wire."""

from dataclasses import dataclass, field
from typing import Final, Literal, final

from tests.conformance.wire import FORM, Request, basic

Parameters = tuple[tuple[str, str | None], ...]
"""Names and urlencoded values in order; None for a bare name without `=`. Values may be `PLACEHOLDERS`."""

PREFIX_KEY: Final = "/seq"
"""Sequences that do not work on the root work below this, which none of them touches itself."""
PLACEHOLDERS: Final = ("$index", "$stale", "$value", "$now", "$soon", "$past", "$long-ago")
"""Values that are known only when a step is run: the node's index and value, indices around the store's."""


@final
@dataclass(frozen=True, slots=True)
class Ask:
    """One request to /v2/keys, answered at once."""

    operation: str
    """What the generator meant, for counts and reports: `set`, `compareAndSwap`, `invalid`, ..."""
    method: str
    path: str
    """Escaped path below the sequence's own; empty for that itself."""
    query: Parameters = ()
    form: Parameters | None = None
    """None sends no body."""
    content_type: str | None = FORM
    login: str | None = None
    """`user:password`; None for nobody in particular."""

    def __str__(self) -> str:
        query = "?" + _shown(self.query) if self.query else ""
        form = "" if self.form is None else f"  {_shown(self.form)}"
        kind = "" if self.content_type == FORM else f"  [{self.content_type}]"
        login = "" if self.login is None else f"  by {self.login}"
        return f"{self.method} {self.path or '(itself)'}{query}{form}{kind}{login}"


def _shown(parameters: Parameters) -> str:
    """Parameters in a report, long values cut."""
    return "&".join(name if value is None else f"{name}={value[:40]}" for name, value in parameters)


@final
@dataclass(frozen=True, slots=True)
class OpenWatch:
    """A watch that stays open until the end of its sequence."""

    path: str
    recursive: bool
    stream: bool
    wait_index: str | None
    """None, a number or a placeholder."""
    login: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Expire:
    """Nodes written with a TTL of no or one second, and nothing else until they are gone on both servers."""

    paths: tuple[str, ...]
    ttl: Literal[0, 1]
    directory: bool


@final
@dataclass(frozen=True, slots=True)
class Oversized:
    """A form one byte longer than 10 MiB."""

    path: str


@final
@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A request to another path than /v2/keys."""

    method: str
    target: str


@final
@dataclass(frozen=True, slots=True)
class Account:
    """A request about users, roles or auth itself."""

    method: str
    target: str
    body: str | None
    login: str | None = None

    def request(self) -> Request:
        """As it goes out."""
        body = None if self.body is None else self.body.encode()
        return Request(self.method, self.target.encode(), body, headers=headers_of(self.login))


Step = Ask | OpenWatch | Expire | Oversized | Elsewhere | Account


@final
@dataclass(frozen=True, slots=True)
class Sequence:
    """Some steps, run in order on an empty store."""

    on_root: bool
    """Whether the paths begin at the root rather than at `PREFIX_KEY`."""
    steps: tuple[Step, ...]
    auth: bool = False
    """Whether there are users and roles, and auth is on (see `accounts`)."""

    @property
    def prefix(self) -> str:
        """What stands before every path."""
        return "" if self.on_root else PREFIX_KEY

    def __str__(self) -> str:
        lines = [str(step) for step in self.steps]
        return f"on {self.prefix or 'the root'}:\n" + "\n".join(f"  {line}" for line in lines)


@final
@dataclass(slots=True)
class World:
    """What a sequence knows of the store, learnt from etcd's answers."""

    index: int
    """The store's index."""
    nodes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By escaped path: modifiedIndex and escaped value last written there."""

    def resolve(self, value: str, path: str) -> str:
        """The value of a parameter with placeholders replaced."""
        index, text = self.nodes.get(path, (7, "v"))
        match value:
            case "$index":
                return str(index)
            case "$stale":
                return str(index + 1)
            case "$value":
                return text or "v"
            case "$now":
                return str(self.index)
            case "$soon":
                return str(self.index + 2)
            case "$past":
                return str(max(1, self.index - 3))
            case "$long-ago":
                return str(max(1, self.index - 2000))
            case _:
                return value

    def note_write(self, step: Ask, index: int) -> None:
        """Remember a successful write."""
        self.index = max(self.index, index)
        if step.method == "DELETE":
            self.nodes.pop(step.path, None)
        else:
            value = dict(step.form or ()).get("value") or dict(step.query).get("value") or ""
            self.nodes[step.path] = (index, self.resolve(value, step.path))


def encoded(parameters: Parameters, world: World, path: str) -> str:
    """Parameters as they stand in a query or a form."""
    return "&".join(name if value is None else f"{name}={world.resolve(value, path)}" for name, value in parameters)


def request_of(step: Ask, prefix: str, world: World) -> Request:
    """The request of a step."""
    target = f"/v2/keys{prefix}{step.path}"
    if step.query:
        target += "?" + encoded(step.query, world, step.path)
    headers = headers_of(step.login)
    if step.form is None:
        return Request(step.method, target.encode(), headers=headers)
    form = encoded(step.form, world, step.path).encode()
    return Request(step.method, target.encode(), form, step.content_type, headers)


def headers_of(login: str | None) -> tuple[tuple[str, str], ...]:
    """The headers by which somebody asks."""
    return () if login is None else (basic(login),)
