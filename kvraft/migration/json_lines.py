"""Contents as a text file, one JSON object a line, for `kvraft export` and `kvraft import`, and for whoever reads JSON.

The first line is `{"kvraft_export": 1, "etcd_index": N, ...}`: the version of the format, and the index as of which the
rest holds. Then one line each:

- `{"key": "/a", "value": "text", ...}`: a file, or with `"dir": true` a directory, parents first. `createdIndex` and
  `modifiedIndex` are the source's; `expiration_ns` is when it expires, in nanoseconds since 1970, absent for never.
  What is not UTF-8 stands as `key_base64` or `value_base64` instead.
- `{"role": "r", "read": [...], "write": [...]}`;
- `{"user": "u", "roles": [...]}`, with `password_hash` (bcrypt) where the source told it.

The last line is `{"end": true, "lines": N}`, with the number of lines before it: a file without it is not whole.
A reader passes over fields that it does not know; another meaning of one that is known needs another version.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from kvraft.keyspace.account_commands import Permissions
from kvraft.keyspace.account_records import Role, User
from kvraft.migration.contents import Contents, Node, UnusableError, with_directories

VERSION: Final = 1
_MARK: Final = "kvraft_export"


def lines_of(contents: Contents) -> Iterator[str]:
    """The file, line by line, each with its line feed."""
    count = 0
    for facts in _facts(contents):
        yield json.dumps(facts, ensure_ascii=False, separators=(",", ":")) + "\n"
        count += 1
    yield json.dumps({"end": True, "lines": count}) + "\n"


def _facts(contents: Contents) -> Iterator[dict[str, object]]:
    yield {_MARK: VERSION, "etcd_index": contents.etcd_index, "auth_enabled": contents.auth_enabled}
    for node in contents.nodes:
        facts = _text("key", node.path)
        facts |= {"dir": True} if node.value is None else _text("value", node.value)
        if node.expiration_ns:
            facts["expiration_ns"] = node.expiration_ns
        yield facts | {"createdIndex": node.created_index, "modifiedIndex": node.modified_index}
    for role in contents.roles:
        yield {
            "role": role.name,
            "read": list(role.permissions.read or ()),
            "write": list(role.permissions.write or ()),
        }
    for user in contents.users:
        facts = {"user": user.name, "roles": list(user.roles or ())}
        yield facts | ({"password_hash": user.password_hash.decode()} if user.password_hash else {})


def _text(name: str, raw: bytes) -> dict[str, object]:
    try:
        return {name: raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw).decode()}


def contents_of(lines: Iterable[bytes], name: str) -> Contents:
    """Read a file back.

    Raises:
        UnusableError: it is none of these, of a later version, damaged or not whole, with the line.
    """
    contents: Contents | None = None
    number = 0
    for number, line in enumerate(lines, 1):
        try:
            facts = json.loads(line)
            if contents is None:
                contents = _begun(facts, name)
            elif facts.get("end"):
                _expect_all(facts["lines"], number - 1)
                contents.nodes = with_directories(contents.nodes)
                return contents
            else:
                _take(facts, contents)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UnusableError(f"{name}, line {number}: not written by kvraft export, or damaged ({error})") from error
    if not number:
        raise UnusableError(f"{name}: empty; `kvraft export` writes what is read here")
    raise UnusableError(f"{name}: the file ends after line {number}, before its last one: it is not whole")


def _expect_all(written: int, there: int) -> None:
    if written != there:
        raise ValueError(f"{written} lines were written, and {there} are there")


def _begun(facts: dict[str, Any], name: str) -> Contents:
    if facts[_MARK] != VERSION:
        raise UnusableError(
            f"{name}: format {facts[_MARK]}, and this kvraft reads {VERSION}; import it with a later one"
        )
    return Contents(int(facts["etcd_index"]), auth_enabled=bool(facts.get("auth_enabled")))


def _take(facts: dict[str, Any], contents: Contents) -> None:
    if "role" in facts:
        permissions = Permissions(_names(facts["read"]), _names(facts["write"]))
        contents.roles.append(Role(_name(facts["role"]), permissions))
    elif "user" in facts:
        contents.users.append(
            User(_name(facts["user"]), facts.get("password_hash", "").encode(), _names(facts["roles"]))
        )
    else:
        path = _raw("key", facts)
        if not path.startswith(b"/") or path == b"/":
            raise ValueError(f"{path!r} is no key")
        value = None if facts.get("dir") else _raw("value", facts)
        indices = (int(facts.get("createdIndex", 0)), int(facts.get("modifiedIndex", 0)))
        contents.nodes.append(Node(path, value, int(facts.get("expiration_ns", 0)), *indices))


def _raw(name: str, facts: dict[str, Any]) -> bytes:
    text = facts.get(name)
    if text is None:
        return base64.b64decode(facts[f"{name}_base64"], validate=True)
    return _name(text).encode()


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r:.80} is no list")
    return tuple(map(_name, value))
