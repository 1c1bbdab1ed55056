"""A discovery service in memory, whose watchers see what the test says has happened meanwhile."""

from collections import deque
from collections.abc import Callable
from typing import Final

from kvraft.discovery.interfaces import Answer, UnreachableError

TOKEN: Final = "/v2/keys/discovery/t"
SIZE: Final = f"{TOKEN}/_config/size"

Event = Callable[[], Answer | None]
"""What happens while somebody waits; the answer to him, None for that of a watcher."""


class FakeService:
    """Satisfies `Service`."""

    def __init__(self, size: str | None) -> None:
        self.index = 10
        self._keys: dict[str, tuple[str, int]] = {}
        self.events: deque[Event] = deque()
        """Each is for one wait for the token."""
        self.failures = 0
        """So many GETs are not answered."""
        self.is_lost = False
        """What is created is not answered."""
        self.asked: list[str] = []
        if size is not None:
            self.put(SIZE, size)

    def put(self, path: str, value: str) -> None:
        """Somebody writes a key."""
        self.index += 1
        self._keys[path] = (value, self.index)

    def get(self, path: str) -> Answer:
        """Of a key, or of the token with its keys."""
        self.asked.append(f"GET {path}")
        if self.failures:
            self.failures -= 1
            raise UnreachableError("http://d:1: Connection refused")
        if path == TOKEN:
            nodes = [
                {"key": key.removeprefix("/v2/keys"), "value": value, "createdIndex": index}
                for key, (value, index) in sorted(self._keys.items())
                if "/_" not in key
            ]
            return self._found({"key": "/discovery/t", "dir": True, "nodes": nodes, "createdIndex": 1})
        if path not in self._keys:
            return self._error(404, 100)
        return self._found({"key": path, "value": self._keys[path][0], "createdIndex": self._keys[path][1]})

    def create(self, path: str, value: str) -> Answer:
        """A new key."""
        self.asked.append(f"PUT {path} {value}")
        if self.is_lost:
            raise UnreachableError("http://d:1: no answer in time")
        if path in self._keys:
            return self._error(412, 105)
        self.put(path, value)
        return self._found({"key": path, "value": value, "createdIndex": self.index}, status=201)

    def wait(self, path: str, index: int, *, recursive: bool) -> Answer:
        """Let the next event happen."""
        self.asked.append(f"WAIT {path} {index} {recursive}")
        answer = self.events.popleft()() if path == TOKEN else None
        return answer if answer is not None else self._found({"key": path, "createdIndex": index})

    def cleared(self) -> Answer:
        """The watcher's place is gone from the history."""
        return self._error(400, 401)

    def _found(self, node: dict[str, object], status: int = 200) -> Answer:
        return Answer(status, {"action": "get", "node": node}, is_empty=False, index=self.index)

    def _error(self, status: int, code: int) -> Answer:
        body = {"errorCode": code, "message": "m", "cause": "c", "index": self.index}
        return Answer(status, body, is_empty=False, index=self.index)


def given_up() -> Answer:
    """The answer to a watch that ends with nothing."""
    return Answer(200, None, is_empty=True, index=0)
