"""When members can be changed, for tests that change them."""

import json
from typing import Final

from tests.conformance.differential.pair import Server
from tests.conformance.wire import Answer, Request

ADDABLE_WITHIN_S: Final = 30.0
"""etcd adds nobody before all its members have been connected for 5 s."""
_NOBODY: Final = Request("POST", b"/v2/members", b'{"peerURLs":["http://127.0.0.1:1"]}', "application/json")


def wait_addable(server: Server) -> None:
    """Return once a member can be added: one is, and removed again."""
    answers: list[Answer] = []

    def is_added() -> bool:
        answers.append(server.ask(_NOBODY))
        return answers[-1].status == 201

    server.system.cluster.wait_for("a change of its members", is_added, ADDABLE_WITHIN_S)
    member_id = json.loads(answers[-1].body)["id"]
    assert server.ask(Request("DELETE", f"/v2/members/{member_id}".encode())).status == 204
