"""Users, roles, and turning auth on and off: every answer and every index beside a live etcd."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.conformance import systems
from tests.conformance.comparison import comparable, difference
from tests.conformance.differential.pair import Pair, pair
from tests.conformance.wire import FORM, Request, basic, keys_request

pytestmark = pytest.mark.slow

ENABLE: Final = "/v2/auth/enable"
USERS: Final = "/v2/auth/users"
ROLES: Final = "/v2/auth/roles"
ROOT: Final = "root:rpw"
Step = tuple[Any, ...]
"""Method, path, and perhaps a body (a string, or plain data that is sent as JSON) and `user:password`."""


def user(name: str, **given: Any) -> Step:
    """PUT of a user."""
    return "PUT", f"{USERS}/{name}", {"user": name, **given}


def role(name: str, **given: Any) -> Step:
    """PUT of a role; patterns as (read, write)."""
    body: dict[str, Any] = {"role": name}
    for field, (read, write) in given.items():
        body[field] = {"kv": {"read": read, "write": write}}
    return "PUT", f"{ROLES}/{name}", body


def raw(kind: str, name: str, body: str) -> Step:
    """PUT of a user or role with a body as it is."""
    return "PUT", f"/v2/auth/{kind}/{name}", body


def request_of(step: Step) -> Request:
    """A step as it goes out."""
    method, path, body, login = (*step, None, None)[:4]
    if body is not None and not isinstance(body, str):
        body = json.dumps(body)
    headers = () if login is None else (basic(login),)
    content_type = FORM if path.startswith("/v2/keys") and body is not None else None
    return Request(method, path.encode(), None if body is None else body.encode(), content_type, headers)


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    """One member of each at the same index."""
    with systems.etcd() as oracle, systems.subject() as subject, pair(oracle, subject) as opened:
        opened.align()
        yield opened


def agree(servers: Pair, steps: list[Step]) -> None:
    """Every answer is the same, and so is the index after it."""
    for step in steps:
        request = request_of(step)
        expected, actual = (comparable(answer, unsorted=True) for answer in servers.ask(request))
        words = difference(expected, actual)
        assert words is None, f"{step}: {words}"
        look = keys_request("GET", "/", query="quorum=true")
        looks = servers.ask(Request(look.method, look.target, None, None, (basic(ROOT),)))
        assert looks[0].etcd_index == looks[1].etcd_index, f"{step}: the index afterwards"


@pytest.fixture(autouse=True)
def _forget(servers: Pair) -> Iterator[None]:
    """Auth is off and nobody is known any more after each story."""
    yield
    for server in servers.both:
        server.ask(request_of(("DELETE", ENABLE, None, ROOT)))
        for kind, listed in (("users", "user"), ("roles", "role")):
            for found in json.loads(server.ask(request_of(("GET", f"/v2/auth/{kind}"))).body)[kind] or ():
                server.ask(request_of(("DELETE", f"/v2/auth/{kind}/{found[listed]}")))
    servers.align()


NAMES: Final = [
    user("_h", password="x"),
    ("GET", USERS),
    ("GET", f"{USERS}/_h"),
    role("_h"),
    ("GET", ROLES),
    ("DELETE", f"{USERS}/_h"),
    ("DELETE", f"{ROLES}/_h"),
    raw("users", "x%20y", '{"user":"x y","password":"x"}'),
    ("DELETE", f"{USERS}/x%20y"),
    raw("users", "%C3%A9%3C", '{"user":"\u00e9<","password":"x"}'),
    ("GET", f"{USERS}/%C3%A9%3C"),
    ("DELETE", f"{USERS}/%C3%A9%3C"),
    raw("users", "%ff", '{"user":"\\ufffd","password":"x"}'),
    ("GET", f"{USERS}/%ff"),
    ("DELETE", f"{USERS}/%ff"),
    raw("users", "%EF%BF%BD", '{"user":"\\ud800","password":"x"}'),
    ("DELETE", f"{USERS}/%EF%BF%BD"),
    ("GET", f"{USERS}/a/b"),
    ("PUT", f"{USERS}/a/b", {}),
    ("POST", f"{USERS}/a/b", {}),
    ("HEAD", f"{ROLES}/a/b"),
    ("GET", f"{USERS}/a/"),
    ("DELETE", f"{USERS}/a/"),
    ("GET", f"{USERS}/v/..%2fw"),
    *(("GET", f"/v2/auth{path}") for path in ("", "/", "/foo", "/enable/", "/enable/x", "/users/", "/roles/")),
    *(
        (method, path)
        for method in ("HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
        for path in (USERS, ROLES, f"{USERS}/", f"{ROLES}/")
    ),
    *((method, path) for method in ("HEAD", "POST", "PATCH") for path in (ENABLE, f"{USERS}/x", f"{ROLES}/x")),
    *(("GET", f"{path}?{query}") for path in (USERS, ROLES, f"{USERS}/x", f"{ROLES}/root") for query in ("%zz", "a;b")),
]
BODIES: Final = [
    *(
        raw(kind, "d5", body)
        for kind in ("users", "roles")
        for body in (
            "",
            "[]",
            "{",
            "null",
            '"d5"',
            "7",
            ' \n{"user":"d5","role":"d5","password":"a"',
            '{"user":"d5","role":"d5","password":"a",}',
            '{"user":"d5","role":"d5","password":"a","roles":"q","permissions":"q"}',
            '{"user":"d5","role":"d5","password":1,"grant":7}',
            '{"user":"d5","role":"d5","x":NaN}',
            '{"user":"d5","role":"d5","x":"\t"}',
            "{}",
        )
    ),
    raw("users", "d", '{"user":"x","user":"d","password":null}'),
    raw("users", "d", '{"user":"d","password":"a","roles":["q"],"roles":[]}'),
    raw("users", "d2", '{"user":"d2","password":"a","roles":["q"],"roles":null} trailing'),
    raw("users", "d3", '{"User":"d3","PASSWORD":"a","roles":["q","r"]}'),
    raw("users", "d4", '{"u\u017fer":"d4","password":"a","x":{"y":[1,2,{}]}}'),
    raw("users", "d6", '{"user":"d6","pa\u00dfword":"a"}'),
    raw("users", "d7", '{"user":"d7","password":"a","grant":[]}'),
    raw("roles", "e1", '{"role":"e1","permissions":{"kv":{"read":["a"]}},"permissions":{"kv":{"write":["b"]}}}'),
    raw("roles", "e2", '{"role":"e2","grant":{"kv":{"read":["a"]}},"grant":{"kv":{"write":["b"]}}}'),
    raw("roles", "e2", '{"role":"e2","permissions":null,"permissions":{"kv":null}}'),
    raw("roles", "e3", '{"role":"e3","grant":{"kv":{"read":["a"]}},"grant":null}'),
    raw("roles", "e1", '{"role":"e1","revoke":{"kv":{"read":["zz"]}}}'),
    raw("roles", "e4", '{"role":"e4","permissions":{"kv":{"read":["noslash","*"]}}}'),
    ("GET", ROLES),
]
CHANGES: Final = [
    user("u", password="p"),
    user("u"),
    user("u"),
    user("u", password="p"),
    user("u", password=""),
    user("u", grant=["r1"]),
    user("u", grant=["r1"]),
    user("u", revoke=["r9"]),
    user("u", grant=["a", "b"], revoke=["r1"]),
    user("u", grant=["a2", "a2"]),
    user("u", grant=["q"], password="other"),
    ("GET", f"{USERS}/u"),
    user("n", grant=["a"]),
    user("n", roles=["z", "y", "z"], password="x"),
    user("n", roles=["z"], password="x"),
    user("n", roles=["z"], grant=["x"]),
    user("n", grant=["y"], revoke=["y"]),
    user("n", grant=["q"], revoke=["q"]),
    user("w", roles=["b"], password=""),
    user("w", roles=["b", "a"], password="x"),
    user("w"),
    user("w"),
    user("root", password="rpw", roles=["a"]),
    user("root", revoke=["root"]),
    user("root", grant=["root"]),
    ("GET", f"{USERS}/root"),
    user("root", revoke=["a"]),
    ("GET", f"{USERS}/root"),
    ("GET", USERS),
    role("r"),
    role("r"),
    role("r", revoke=(["/zz"], None)),
    role("r", grant=(["/b/*", "/a/*"], None)),
    role("r", grant=(["/a/*"], None)),
    role("r", grant=(None, ["/w", "/w"])),
    role("r", revoke=(None, ["/w"])),
    role("r", revoke=(["/b/*", "/zz"], None)),
    role("r", permissions=(["/a"], None), grant=(["/c"], None)),
    role("q", permissions=(["/a", "/a", "/0"], None)),
    role("q", grant=(None, None)),
    role("q2", grant=([], None), revoke=(None, None)),
    ("GET", f"{ROLES}/q2"),
    role("q2", grant=(["/x"], None), revoke=(["/x"], None)),
    role("q2", grant=(["/x"], None), revoke=(None, [""])),
    role("root"),
    role("root", grant=(["/x"], None)),
    role("zz", grant=(["/x"], None)),
    ("GET", f"{ROLES}/zz"),
    ("GET", f"{ROLES}/root"),
    ("GET", ROLES),
    ("DELETE", f"{ROLES}/root"),
    ("DELETE", f"{ROLES}/nx"),
    ("DELETE", f"{ROLES}/r"),
    ("DELETE", f"{USERS}/nx"),
    ("DELETE", f"{USERS}/u"),
    ("DELETE", f"{USERS}/u"),
]
TURNS: Final = [
    ("GET", ENABLE),
    ("PUT", ENABLE),
    ("DELETE", ENABLE),
    user("root", password="rpw"),
    user("u", password="p"),
    ("PUT", ENABLE),
    ("PUT", ENABLE),
    ("PUT", ENABLE, None, ROOT),
    ("PUT", ENABLE, None, "u:p"),
    ("GET", ENABLE),
    ("GET", f"{ROLES}/guest"),
    ("GET", f"{ROLES}/guest", None, ROOT),
    ("GET", USERS, None, "u:p"),
    ("GET", USERS, None, "root:wrong"),
    ("DELETE", f"{USERS}/root", None, ROOT),
    ("DELETE", f"{ROLES}/guest", None, ROOT),
    ("GET", "/v2/keys/", None, None),
    ("GET", "/v2/keys/", None, ROOT),
    ("PUT", "/v2/keys/k", "value=1"),
    ("DELETE", ENABLE),
    ("DELETE", ENABLE, None, ROOT),
    ("DELETE", ENABLE),
    role("guest"),
    ("PUT", ENABLE),
    ("GET", "/v2/keys/k"),
    ("DELETE", ENABLE, None, ROOT),
    ("DELETE", f"{USERS}/root"),
    ("PUT", ENABLE),
]


@pytest.mark.parametrize("story", [NAMES, BODIES, CHANGES, TURNS], ids=["names", "bodies", "changes", "turns"])
def test_auth_api_answers_as_etcd_does(servers: Pair, story: list[Step]) -> None:
    """Statuses, headers, bodies, and what each change takes of the index, refused ones included."""
    agree(servers, story)


def test_users_and_roles_are_no_keys(servers: Pair) -> None:
    """Neither by the name that 2.3's documents give them nor by the one that they have inside of etcd 3.4."""
    agree(
        servers,
        [
            user("root", password="rpw"),
            *(
                (method, f"/v2/keys{path}")
                for path in (
                    "/_security",
                    "/_security?recursive=true",
                    "/2",
                    "/2/users",
                    "/..%2f2/users",
                    "/?recursive=true",
                )
                for method in ("GET", "HEAD")
            ),
        ],
    )


def test_a_long_password_counts_by_its_first_72_bytes(servers: Pair) -> None:
    """As bcrypt does it; a NUL is a byte like any other, and a colon belongs to the password."""
    long = "y" * 80
    agree(
        servers,
        [
            user("root", password="rpw"),
            user("long", password=long, roles=["root"]),
            user("nul", password="a\x00b", roles=["root"]),
            user("colon", password="a:b", roles=["root"]),
            ("PUT", ENABLE),
            *(
                ("GET", USERS, None, login)
                for login in (
                    f"long:{long}", "long:" + "y" * 72, "long:" + "y" * 71, "nul:a\x00b", "nul:a", "colon:a:b",
                    "colon:a",
                )
            ),
        ],
    )  # fmt: skip


HEADERS: Final = (
    "", "Basic", "Basic ", "Basic !", "basic {}", "BASIC {}", "Basic  {}", "Basic {}=", "Bearer {}", "{}",
    "Basic cm9vdA==", "Basic {} ", "Digest x",
)  # fmt: skip


def test_an_authorization_header_is_read_as_go_does(servers: Pair) -> None:
    """What is no Basic header is nobody's, and never the guest's, unless there is nothing in it."""
    agree(servers, [user("root", password="rpw"), ("PUT", ENABLE)])
    encoded = base64.b64encode(ROOT.encode()).decode()
    for header in HEADERS:
        for target in (b"/v2/keys/", b"/v2/auth/users"):
            for headers in (
                (("Authorization", header.format(encoded)),),
                (("Authorization", header.format(encoded)), ("Authorization", f"Basic {encoded}")),
            ):
                request = Request("GET", target, None, None, headers)
                expected, actual = (comparable(answer, unsorted=True) for answer in servers.ask(request))
                assert difference(expected, actual) is None, (headers, target, expected, actual)
