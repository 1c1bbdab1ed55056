"""/v2/auth, as far as it is there: it is off, and saying so is all. Turning it on belongs to a later version.

What would need users and roles is answered 501, so that no tool believes that a cluster is protected.
"""

from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.key_responses import json_headers


def auth_answer(method: bytes, path: bytes, backend: Backend) -> Answer:
    """Answer a request below /v2/auth."""
    headers = json_headers(backend.cluster_id)
    if path == b"/v2/auth/enable" and method == b"GET":
        return Answer(200, headers, b'{"enabled":false}\n')
    return errors.message(501, b"kvraft has no users and roles yet", headers)
