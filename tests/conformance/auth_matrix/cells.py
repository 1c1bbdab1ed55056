"""What a cell of the matrix is, and all of them."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from tests.conformance.wire import FORM, Request, basic

PASSWORD: Final = "pw"
ROOT: Final = f"root:{PASSWORD}"
Roles = Mapping[str, tuple[list[str], list[str]]]
ROLES: Final[Roles] = {
    "reads": (["/m/a/*"], []),
    "writes": ([], ["/m/a/*"]),
    "both": (["/m/a/*"], ["/m/a/*"]),
    "key": (["/m/a/k"], ["/m/a/k"]),
    "loose": (["/m/a*"], ["/m/a*"]),
    "neighbour": (["/m/ab/*"], ["/m/ab/*"]),
    "directory": (["/m/a"], ["/m/a"]),
    "all": (["/*"], ["/*"]),
    "guest": (["/m/open/*", "/m/a/open"], ["/m/open/*"]),
}
"""By role, which is also a user's name, what it may read and write."""
ROLES_OF: Final = {"two": ["reads", "writes"], "none": [], "gone": ["missing"]}
"""By user, where that is not the role of the same name alone."""
PATTERNS: Final = (
    *("/m/a", "/m/a/", "/m/a/*", "/m/a*", "/m/a/k", "/m/a/k*", "/m/a/k/", "/m/a/d*", "/m/ab", "/m/ab/*", "/m", "/m/"),
    *("/m/*", "/m/open/*", "/m/open/", "/", "/*", "*", "m/a/*", "/m/b/*"),
)
LOGINS: Final = (
    None,
    "",
    "Basic !",
    "Bearer x",
    f"nobody:{PASSWORD}",
    "root:wrong",
    "both:wrong",
    ROOT,
    *(f"{role}:{PASSWORD}" for role in ROLES if role != "guest"),
    f"two:{PASSWORD}",
    f"none:{PASSWORD}",
    f"gone:{PASSWORD}",
)
"""Who asks: nobody, headers as they are, and `user:password`. `two` reads and writes by two roles, `none` has none,
`gone` one that does not exist."""
CERTIFICATES: Final = (
    *("root", "reads", "writes", "both", "key", "loose", "neighbour", "directory", "all", "two", "none", "gone"),
    *("nobody", "guest"),
)
"""Common names of certificates; nobody and the guest are no users."""
BESIDE_A_CERTIFICATE: Final = (
    *(("root", login) for login in ("", "Bearer x", "both:wrong", f"nobody:{PASSWORD}", f"both:{PASSWORD}")),
    *(("both", login) for login in (ROOT, f"reads:{PASSWORD}")),
    *(("nobody", login) for login in ("Basic !", f"both:{PASSWORD}")),
)
"""Who shows a certificate and sends a header as well: the header counts, unless it is empty."""
TREE: Final = ("/m/a/k", "/m/a/open", "/m/a/d/x", "/m/ab/k", "/m/open/k", "/m/_hidden/k")
TARGETS: Final = (
    "",
    "/",
    "/m",
    "/m/a",
    "/m/a/",
    "/m/a/k",
    "/m/a/k/",
    "/m/a/d",
    "/m/ab",
    "/m/ab/k",
    "/m/open/",
    "/m/a%2Fk",
)
READS: Final = (
    "",
    "recursive=true",
    "recursive=true&sorted=true",
    "quorum=true",
    "quorum=true&recursive=true",
    "wait=true",
    "wait=true&recursive=true",
    "wait=true&stream=true&recursive=true",
    "wait=true&waitIndex=$history",
    "wait=true&waitIndex=$history&recursive=true",
    "wait=true&waitIndex=1",
    "wait=true&quorum=true",
    "recursive=zz",
)
WRITES: Final = (
    ("PUT", "", "value=1"),
    ("PUT", "recursive=true", "value=1"),
    ("PUT", "noValueOnSuccess=true", "value=1"),
    ("PUT", "prevExist=false", "value=1"),
    ("PUT", "prevExist=true", "value=1"),
    ("PUT", "prevValue=0", "value=1"),
    ("PUT", "prevValue=wrong", "value=1"),
    ("PUT", "prevIndex=1", "value=1"),
    ("PUT", "prevExist=true&refresh=true&ttl=500", None),
    ("PUT", "dir=true", None),
    ("POST", "", "value=1"),
    ("POST", "dir=true", None),
    ("DELETE", "", None),
    ("DELETE", "dir=true", None),
    ("DELETE", "recursive=true", None),
    ("DELETE", "prevValue=0", None),
    ("DELETE", "prevValue=wrong", None),
    ("DELETE", "prevIndex=zz", None),
)
OTHERS: Final = (
    *(("GET", path, None) for path in ("/version", "/health", "/v2/machines", "/v2/members", "/v2/members/leader")),
    *(("GET", f"/v2/stats/{name}", None) for name in ("self", "leader", "store")),
    *(("GET", path, None) for path in ("/metrics", "/debug/vars", "/v2/auth/enable", "/nowhere")),
    *(("GET", f"/v2/auth/{path}/x/y", None) for path in ("users", "roles")),
    *(("HEAD", path, None) for path in ("/v2/machines", "/v2/members", "/v2/auth/users")),
    ("POST", "/v2/members", "{}"),
    ("PUT", "/v2/members/123", "{}"),
    ("DELETE", "/v2/members/123", None),
    ("DELETE", "/v2/members", None),
    ("PATCH", "/v2/members", None),
    ("PUT", "/v2/auth/enable", None),
    *(("GET", f"/v2/auth/{path}", None) for path in ("users", "users/", "users/both", "users/gone", "users/x")),
    *(("GET", f"/v2/auth/{path}", None) for path in ("roles", "roles/", "roles/both", "roles/root", "roles/x")),
    *(("PUT", f"/v2/auth/{path}", "no json") for path in ("users/x", "roles/x")),
    ("PUT", "/v2/auth/users/x", '{"user":"y"}'),
    ("PUT", "/v2/auth/roles/root", '{"role":"root"}'),
    *(("DELETE", f"/v2/auth/{path}", None) for path in ("users/x", "users/root", "roles/x", "roles/root")),
    *(("POST", f"/v2/auth/{path}", None) for path in ("users", "users/x", "roles/x", "enable")),
    ("PUT", "/config/local/log", "{"),
)
MEASURED: Final = frozenset(
    {"/metrics", "/debug/vars", "/v2/stats/self", "/v2/stats/store", "/v2/stats/leader", "/version"}
    | {"/v2/machines", "/v2/members", "/v2/members/leader"}
)
"""Their bodies are each server's own."""


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One request by somebody."""

    method: str
    target: str
    """With `$history` where the index of an old event belongs."""
    body: str | None
    login: str | None
    certificate: str | None = None
    """The common name of the certificate that is shown; None in the open."""

    @property
    def user(self) -> str:
        """Whoever asks, if he is believed; the guest if it is nobody."""
        if self.login:
            return self.login.partition(":")[0]
        return self.certificate if self.certificate not in (None, "nobody") else "guest"

    @property
    def is_key(self) -> bool:
        """Whether it is about a key."""
        return self.target.startswith("/v2/keys")

    @property
    def opens_a_watch(self) -> bool:
        """Whether an answer may begin that does not end."""
        return "wait=true" in self.target and "quorum" not in self.target

    @property
    def costs_a_hash(self) -> bool:
        """Whether etcd compares a password."""
        return self.login is not None and ":" in self.login and not self.login.startswith("nobody")

    def request(self, history: int) -> Request:
        """As it goes out."""
        headers = () if self.login is None else (authorization(self.login),)
        content_type = FORM if self.is_key and self.body is not None else None
        target = self.target.replace("$history", str(history)).encode()
        return Request(self.method, target, None if self.body is None else self.body.encode(), content_type, headers)


def authorization(login: str) -> tuple[str, str]:
    """The header that says who asks."""
    is_login = ":" in login and not login.startswith("Basic")
    return basic(login) if is_login else ("Authorization", login)


def all_cells() -> Iterator[Cell]:
    """Every route and method by everybody; reads before writes."""
    for certificate, login in (
        *((None, login) for login in LOGINS),
        *((certificate, None) for certificate in CERTIFICATES),
        *BESIDE_A_CERTIFICATE,
    ):
        for method, target, body in _requests():
            yield Cell(method, target, body, login, certificate)


def _requests() -> Iterator[tuple[str, str, str | None]]:
    for target in TARGETS:
        for query in READS:
            yield "GET", _url(target, query), None
        yield "HEAD", _url(target, ""), None
        yield "HEAD", _url(target, "recursive=true"), None
        for method, query, body in WRITES:
            yield method, _url(target, query), body
        yield "PATCH", _url(target, ""), None
    yield from OTHERS


def _url(target: str, query: str) -> str:
    return f"/v2/keys{target}" + (f"?{query}" if query else "")


def drawn_roles(rng: random.Random) -> Roles:
    """The same roles with patterns by chance."""

    def some() -> list[str]:
        return rng.sample(PATTERNS, rng.choice((0, 1, 1, 2, 3)))

    return {role: (some(), some()) for role in ROLES}


def preparation(roles: Roles) -> list[Request]:
    """Users and roles, before auth is turned on."""
    bodies: list[tuple[str, str, dict[str, Any]]] = [("users", "root", {"user": "root", "password": PASSWORD})]
    for role, (read, write) in roles.items():
        bodies.append(("roles", role, {"role": role, "permissions": {"kv": {"read": read, "write": write}}}))
        bodies.append(("users", role, {"user": role, "password": PASSWORD, "roles": [role]}))
    for name, given in ROLES_OF.items():
        bodies.append(("users", name, {"user": name, "password": PASSWORD, "roles": given}))
    return [
        Request("PUT", f"/v2/auth/{kind}/{name}".encode(), json.dumps(body).encode(), "application/json")
        for kind, name, body in bodies
    ]
