"""etcd's v2 error table: codes, messages and HTTP statuses stand here and nowhere else (etcd v2.3.8 error/error.go)."""

import enum
from dataclasses import dataclass
from typing import final


class ErrorCode(enum.IntEnum):
    """`errorCode` of a v2 answer."""

    KEY_NOT_FOUND = 100
    TEST_FAILED = 101
    NOT_FILE = 102
    NOT_DIR = 104
    NODE_EXIST = 105
    ROOT_READ_ONLY = 107
    DIR_NOT_EMPTY = 108
    UNAUTHORIZED = 110
    PREV_VALUE_REQUIRED = 201
    TTL_NAN = 202
    INDEX_NAN = 203
    INVALID_FIELD = 209
    INVALID_FORM = 210
    REFRESH_VALUE = 211
    REFRESH_TTL_REQUIRED = 212
    RAFT_INTERNAL = 300
    LEADER_ELECT = 301
    WATCHER_CLEARED = 400
    EVENT_INDEX_CLEARED = 401


MESSAGES: dict[ErrorCode, str] = {
    ErrorCode.KEY_NOT_FOUND: "Key not found",
    ErrorCode.TEST_FAILED: "Compare failed",
    ErrorCode.NOT_FILE: "Not a file",
    ErrorCode.NOT_DIR: "Not a directory",
    ErrorCode.NODE_EXIST: "Key already exists",
    ErrorCode.ROOT_READ_ONLY: "Root is read only",
    ErrorCode.DIR_NOT_EMPTY: "Directory not empty",
    ErrorCode.UNAUTHORIZED: "The request requires user authentication",
    ErrorCode.PREV_VALUE_REQUIRED: "PrevValue is Required in POST form",
    ErrorCode.TTL_NAN: "The given TTL in POST form is not a number",
    ErrorCode.INDEX_NAN: "The given index in POST form is not a number",
    ErrorCode.INVALID_FIELD: "Invalid field",
    ErrorCode.INVALID_FORM: "Invalid POST form",
    ErrorCode.REFRESH_VALUE: "Value provided on refresh",
    ErrorCode.REFRESH_TTL_REQUIRED: "A TTL must be provided on refresh",
    ErrorCode.RAFT_INTERNAL: "Raft Internal Error",
    ErrorCode.LEADER_ELECT: "During Leader Election",
    ErrorCode.WATCHER_CLEARED: "watcher is cleared due to etcd recovery",
    ErrorCode.EVENT_INDEX_CLEARED: "The event in requested index is outdated and cleared",
}

HTTP_STATUSES: dict[ErrorCode, int] = {
    ErrorCode.KEY_NOT_FOUND: 404,
    ErrorCode.TEST_FAILED: 412,
    ErrorCode.NOT_FILE: 403,
    ErrorCode.NODE_EXIST: 412,
    ErrorCode.DIR_NOT_EMPTY: 403,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.RAFT_INTERNAL: 500,
    ErrorCode.LEADER_ELECT: 500,
}
"""Every other code answers 400."""


@final
@dataclass(slots=True, eq=True)
class EtcdError(Exception):
    """One v2 error answer. Returned by the keyspace, where a failed compare is an outcome; parsers raise it."""

    code: ErrorCode
    cause: bytes = b""
    """Raw bytes: often a path, and paths need not be UTF-8. Omitted from the answer when empty."""
    index: int = 0
    """The etcd_index that the answer names; 0 for errors found before the store was asked."""
