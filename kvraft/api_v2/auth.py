"""/v2/auth, as far as it is there: it is off, and saying so is all. Turning it on belongs to a later version.

What would need users and roles is answered 501, so that no tool believes that a cluster is protected.
"""

from typing import Final

from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.key_responses import json_headers

_LISTS: Final = (b"/v2/auth/roles", b"/v2/auth/roles/", b"/v2/auth/users", b"/v2/auth/users/")


def auth_answer(method: bytes, path: bytes, backend: Backend) -> Answer:
    """Answer a request below /v2/auth."""
    if path in _LISTS:
        if method != b"GET":
            return errors.method_not_allowed(b"GET")
    elif path == b"/v2/auth/enable" or path.startswith(_LISTS[1::2]):
        if method not in {b"GET", b"PUT", b"DELETE"}:
            return errors.method_not_allowed(b"GET,PUT,DELETE")
    else:
        return errors.not_found()
    headers = json_headers(backend.cluster_id)
    if path == b"/v2/auth/enable" and method == b"GET":
        return Answer(200, headers, b'{"enabled":false}\n')
    return errors.message(501, b"kvraft has no users and roles yet", headers)
