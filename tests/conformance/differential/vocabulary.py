"""The words that generated requests are made of: paths, values, and everything that etcd refuses to parse."""

from typing import Final

from tests.conformance.differential.steps import Parameters
from tests.conformance.wire import FORM

PATHS: Final = (
    "/a",
    "/b",
    "/a/b",
    "/a/c",
    "/a/b/c",
    "/ab",
    "/d/e/f/g",
    "/d/e",
    "/a/_h",
    "/a/_h/k",
    "/_x",
    "/_x/y",
    "/q",
)
"""Overlapping: children, ancestors, siblings whose names begin alike, hidden nodes."""
ODD_PATHS: Final = (
    "/a/",
    "/a%2Fb",
    "/a/b/c/",
    "/a/%20",
    "/a/+",
    "/a/%2B%25",
    "/a/%E2%82%AC",
    "/a/%E2%80%A8",
    "/a/%3Cx%3E%26",
    "/a/%00",
    "/a/%c3%bf",
    "/a/%22%5C",
    "/a/~!$&'()*,;=:@",
    "/a/b%3Fc%23d",
    "/a/00000000000000000007",
    "/a/%5Fhidden",
    "/a/b/%2e%2e/c",
    "/a//b",
    "/a/./b",
    "/a/../b",
    "/a/%zz",
    "/a/" + "n" * 3000,
    "/a" + "/deep" * 60,
)
"""Escapes, control characters, unclean paths (301), long and deep ones. All are UTF-8: kvraft creates no others."""
VALUES: Final = (
    "1",
    "2",
    "3",
    "",
    "%3Ca%3E%26%22%27%5C%2F",
    "%E2%80%A8%E2%80%A9%C3%A9%F0%9F%98%80",
    "%00%01%08%09%0a%0c%0d%1f%7f",
    "%ff%fe%C3",
    "a+b%20c%2Bd",
    "long" * 700,
)
"""Escaped. The longest makes an answer that Go sends in chunks."""
SECONDS: Final = ("100", "5000", "86400", "9000000")
"""TTLs that do not run out during a sequence."""

GO_TRUE: Final = ("true", "true", "true", "1", "t", "T", "TRUE", "True")
GO_FALSE: Final = ("false", "0", "f", "F", "FALSE", "False")
NOT_BOOLEAN: Final = ("yes", "", "tRue", "2", "%20true", None)
NOT_INTEGER: Final = ("abc", "-1", "%2B1", "1.5", "0x10", "%201", "1_0", "18446744073709551616")
BOOLEANS: Final = (
    "recursive",
    "sorted",
    "wait",
    "dir",
    "quorum",
    "stream",
    "noValueOnSuccess",
    "prevExist",
    "refresh",
)
WRONG_FORMS: Final[tuple[tuple[str, str | None], ...]] = (
    ("value", "%zz"),
    ("a;b", None),
    ("value", "%f"),
    ("%", "1"),
    ("prevValue", ""),
    ("prevIndex", ""),
    ("waitIndex", None),
    ("refresh", "true"),
)
WRONG_WAITS: Final[tuple[Parameters, ...]] = (
    (("wait", "true"),),
    (("wait", "true"), ("stream", "true")),
    (("refresh", "true"), ("ttl", "50"), ("value", "1")),
    (("refresh", "true"),),
    (("prevValue", ""),),
    (("prevValue", ""), ("ttl", "abc"), ("noValueOnSuccess", "maybe")),
    (("prevValue", ""), ("ttl", "abc")),
    (("ttl", "abc"), ("refresh", "true"), ("value", "1")),
)
"""Parameters that parse one by one, and are refused together or with the method."""
CONTENT_TYPES: Final = (
    None,
    "application/json",
    "multipart/form-data; boundary=XX",
    "application/x-www-form-urlencoded; param=value",
    "APPLICATION/X-WWW-FORM-URLENCODED",
    "application/x-www-form-urlencoded; charset",
    "bogus; ; =",
    "bogus; ; =",
    "text/plain",
    FORM,
)
ODD_FORMS: Final[tuple[Parameters, ...]] = (
    (("value", "b"), ("value", "c")),
    (("value", None),),
    (("prevExist", "false"), ("value", "1")),
    (("", ""), ("value", "1"), ("unknown", "2")),
    (("dir", "true"),),
)

CONDITIONS: Final[tuple[Parameters, ...]] = (
    (("prevIndex", "$index"),),
    (("prevValue", "$value"),),
    (("prevIndex", "$stale"),),
    (("prevValue", "other"),),
    (("prevValue", "$value"), ("prevIndex", "$index")),
    (("prevValue", "other"), ("prevIndex", "$stale")),
    (("prevValue", "$value"), ("prevIndex", "$stale")),
    (("prevValue", "other"), ("prevIndex", "$index")),
    (("prevIndex", "18446744073709551615"), ("prevExist", "true")),
)
REFRESHES: Final[tuple[Parameters, ...]] = (
    (("refresh", "true"),),
    (("refresh", "true"),),
    (("refresh", "true"), ("prevExist", "true")),
    (("refresh", "true"), ("prevExist", "true")),
    (("refresh", "true"), ("prevExist", "false")),
    (("refresh", "true"), ("prevIndex", "$index")),
    (("refresh", "true"), ("prevValue", "$value")),
    (("refresh", "false"),),
)

WAIT_INDICES: Final = (None, None, "0", "$now", "$past", "$past", "$soon", "$long-ago")
WATCHED_BESIDE: Final = ("", "/", "/ab/x", "/a/", "/a%2Fb", "/a/b/zzz", "/_x")
"""What is watched beside the paths of a sequence."""

ELSEWHERE_OTHER: Final = (
    "/v2",
    "/v2/",
    "/v2/keysfoo",
    "/nope",
    "/v2/machines/",
    "/v2/stats",
    "/version",
    "/v2/members/123",
)
ELSEWHERE_GET: Final = (*ELSEWHERE_OTHER[:6], "/v2//keys", "/v2/keys/a/..", "/v2/members/foo", "/v2/./keys/a")
"""Paths outside of /v2/keys, and such as the mux redirects, with answers that do not name the server."""
