from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LANE_CONTROL: _ClassVar[Lane]
    LANE_ENTRIES: _ClassVar[Lane]
    LANE_SNAPSHOT: _ClassVar[Lane]
    LANE_FETCH: _ClassVar[Lane]

class RefusalKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REFUSAL_KIND_OTHER: _ClassVar[RefusalKind]
    REFUSAL_KIND_WRONG_CLUSTER: _ClassVar[RefusalKind]
    REFUSAL_KIND_WRONG_MEMBER: _ClassVar[RefusalKind]
    REFUSAL_KIND_PROTOCOL: _ClassVar[RefusalKind]
    REFUSAL_KIND_UNKNOWN_MEMBER: _ClassVar[RefusalKind]
    REFUSAL_KIND_WIPED: _ClassVar[RefusalKind]
    REFUSAL_KIND_SHORTER_LOG: _ClassVar[RefusalKind]
    REFUSAL_KIND_REMOVED: _ClassVar[RefusalKind]
    REFUSAL_KIND_OTHER_HISTORY: _ClassVar[RefusalKind]

class Word(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORD_UNSPECIFIED: _ClassVar[Word]
    WORD_ACCEPTED: _ClassVar[Word]
    WORD_RETIRE: _ClassVar[Word]
    WORD_FETCH: _ClassVar[Word]
    WORD_NOT_FETCHED: _ClassVar[Word]
LANE_UNSPECIFIED: Lane
LANE_CONTROL: Lane
LANE_ENTRIES: Lane
LANE_SNAPSHOT: Lane
LANE_FETCH: Lane
REFUSAL_KIND_OTHER: RefusalKind
REFUSAL_KIND_WRONG_CLUSTER: RefusalKind
REFUSAL_KIND_WRONG_MEMBER: RefusalKind
REFUSAL_KIND_PROTOCOL: RefusalKind
REFUSAL_KIND_UNKNOWN_MEMBER: RefusalKind
REFUSAL_KIND_WIPED: RefusalKind
REFUSAL_KIND_SHORTER_LOG: RefusalKind
REFUSAL_KIND_REMOVED: RefusalKind
REFUSAL_KIND_OTHER_HISTORY: RefusalKind
WORD_UNSPECIFIED: Word
WORD_ACCEPTED: Word
WORD_RETIRE: Word
WORD_FETCH: Word
WORD_NOT_FETCHED: Word

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusAnswer(_message.Message):
    __slots__ = ("cluster_id", "member_id", "protocol_version_min", "protocol_version_max", "current_term", "last_log_index", "fresh", "rebuilding")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    REBUILDING_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    member_id: int
    protocol_version_min: int
    protocol_version_max: int
    current_term: int
    last_log_index: int
    fresh: bool
    rebuilding: bool
    def __init__(self, cluster_id: _Optional[int] = ..., member_id: _Optional[int] = ..., protocol_version_min: _Optional[int] = ..., protocol_version_max: _Optional[int] = ..., current_term: _Optional[int] = ..., last_log_index: _Optional[int] = ..., fresh: _Optional[bool] = ..., rebuilding: _Optional[bool] = ...) -> None: ...

class Greeting(_message.Message):
    __slots__ = ("cluster_id", "member_id", "to_member_id", "protocol_version_min", "protocol_version_max", "last_log_index", "last_log_term", "last_log_hash", "current_term", "fresh", "lane", "instance", "rebuilding", "session", "founding")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    TO_MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_MAX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    CURRENT_TERM_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    REBUILDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    FOUNDING_FIELD_NUMBER: _ClassVar[int]
    cluster_id: int
    member_id: int
    to_member_id: int
    protocol_version_min: int
    protocol_version_max: int
    last_log_index: int
    last_log_term: int
    last_log_hash: bytes
    current_term: int
    fresh: bool
    lane: Lane
    instance: bytes
    rebuilding: bool
    session: int
    founding: bytes
    def __init__(self, cluster_id: _Optional[int] = ..., member_id: _Optional[int] = ..., to_member_id: _Optional[int] = ..., protocol_version_min: _Optional[int] = ..., protocol_version_max: _Optional[int] = ..., last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ..., last_log_hash: _Optional[bytes] = ..., current_term: _Optional[int] = ..., fresh: _Optional[bool] = ..., lane: _Optional[_Union[Lane, str]] = ..., instance: _Optional[bytes] = ..., rebuilding: _Optional[bool] = ..., session: _Optional[int] = ..., founding: _Optional[bytes] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("kind", "detail", "remembered_index")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REMEMBERED_INDEX_FIELD_NUMBER: _ClassVar[int]
    kind: RefusalKind
    detail: str
    remembered_index: int
    def __init__(self, kind: _Optional[_Union[RefusalKind, str]] = ..., detail: _Optional[str] = ..., remembered_index: _Optional[int] = ...) -> None: ...

class SessionMessage(_message.Message):
    __slots__ = ("greeting", "refusal", "frames", "fragment", "word")
    GREETING_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAGMENT_FIELD_NUMBER: _ClassVar[int]
    WORD_FIELD_NUMBER: _ClassVar[int]
    greeting: Greeting
    refusal: Refusal
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    fragment: Fragment
    word: Word
    def __init__(self, greeting: _Optional[_Union[Greeting, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ..., fragment: _Optional[_Union[Fragment, _Mapping]] = ..., word: _Optional[_Union[Word, str]] = ...) -> None: ...

class Fragment(_message.Message):
    __slots__ = ("data", "frame_bytes")
    DATA_FIELD_NUMBER: _ClassVar[int]
    FRAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    frame_bytes: int
    def __init__(self, data: _Optional[bytes] = ..., frame_bytes: _Optional[int] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("request_pre_vote", "request_pre_vote_reply", "request_vote", "request_vote_reply", "append_entries", "append_entries_reply", "heartbeat", "heartbeat_reply", "read_index_request", "read_index_reply", "timeout_now", "forwarded_command", "forward_refused", "state_hash", "rebuild_request", "rebuild_reply", "match_indices", "forward_fence", "forward_fenced")
    REQUEST_PRE_VOTE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_PRE_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_VOTE_REPLY_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    APPEND_ENTRIES_REPLY_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_REPLY_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REQUEST_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_REPLY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_NOW_FIELD_NUMBER: _ClassVar[int]
    FORWARDED_COMMAND_FIELD_NUMBER: _ClassVar[int]
    FORWARD_REFUSED_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    REBUILD_REQUEST_FIELD_NUMBER: _ClassVar[int]
    REBUILD_REPLY_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDICES_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FENCE_FIELD_NUMBER: _ClassVar[int]
    FORWARD_FENCED_FIELD_NUMBER: _ClassVar[int]
    request_pre_vote: RequestPreVote
    request_pre_vote_reply: RequestPreVoteReply
    request_vote: RequestVote
    request_vote_reply: RequestVoteReply
    append_entries: AppendEntries
    append_entries_reply: AppendEntriesReply
    heartbeat: Heartbeat
    heartbeat_reply: HeartbeatReply
    read_index_request: ReadIndexRequest
    read_index_reply: ReadIndexReply
    timeout_now: TimeoutNow
    forwarded_command: ForwardedCommand
    forward_refused: ForwardRefused
    state_hash: StateHash
    rebuild_request: RebuildRequest
    rebuild_reply: RebuildReply
    match_indices: MatchIndices
    forward_fence: ForwardFence
    forward_fenced: ForwardFenced
    def __init__(self, request_pre_vote: _Optional[_Union[RequestPreVote, _Mapping]] = ..., request_pre_vote_reply: _Optional[_Union[RequestPreVoteReply, _Mapping]] = ..., request_vote: _Optional[_Union[RequestVote, _Mapping]] = ..., request_vote_reply: _Optional[_Union[RequestVoteReply, _Mapping]] = ..., append_entries: _Optional[_Union[AppendEntries, _Mapping]] = ..., append_entries_reply: _Optional[_Union[AppendEntriesReply, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., heartbeat_reply: _Optional[_Union[HeartbeatReply, _Mapping]] = ..., read_index_request: _Optional[_Union[ReadIndexRequest, _Mapping]] = ..., read_index_reply: _Optional[_Union[ReadIndexReply, _Mapping]] = ..., timeout_now: _Optional[_Union[TimeoutNow, _Mapping]] = ..., forwarded_command: _Optional[_Union[ForwardedCommand, _Mapping]] = ..., forward_refused: _Optional[_Union[ForwardRefused, _Mapping]] = ..., state_hash: _Optional[_Union[StateHash, _Mapping]] = ..., rebuild_request: _Optional[_Union[RebuildRequest, _Mapping]] = ..., rebuild_reply: _Optional[_Union[RebuildReply, _Mapping]] = ..., match_indices: _Optional[_Union[MatchIndices, _Mapping]] = ..., forward_fence: _Optional[_Union[ForwardFence, _Mapping]] = ..., forward_fenced: _Optional[_Union[ForwardFenced, _Mapping]] = ...) -> None: ...

class RequestPreVote(_message.Message):
    __slots__ = ("term", "last_log_index", "last_log_term")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_log_index: int
    last_log_term: int
    def __init__(self, term: _Optional[int] = ..., last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ...) -> None: ...

class RequestPreVoteReply(_message.Message):
    __slots__ = ("term", "prospective_term", "granted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    PROSPECTIVE_TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    prospective_term: int
    granted: bool
    def __init__(self, term: _Optional[int] = ..., prospective_term: _Optional[int] = ..., granted: _Optional[bool] = ...) -> None: ...

class RequestVote(_message.Message):
    __slots__ = ("term", "last_log_index", "last_log_term", "leadership_transfer")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    LEADERSHIP_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    term: int
    last_log_index: int
    last_log_term: int
    leadership_transfer: bool
    def __init__(self, term: _Optional[int] = ..., last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ..., leadership_transfer: _Optional[bool] = ...) -> None: ...

class RequestVoteReply(_message.Message):
    __slots__ = ("term", "granted")
    TERM_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    term: int
    granted: bool
    def __init__(self, term: _Optional[int] = ..., granted: _Optional[bool] = ...) -> None: ...

class AppendEntries(_message.Message):
    __slots__ = ("term", "prev_log_index", "prev_log_term", "prev_log_hash", "entries", "leader_commit", "clock_ms", "notice")
    TERM_FIELD_NUMBER: _ClassVar[int]
    PREV_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    PREV_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    PREV_LOG_HASH_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    LEADER_COMMIT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    term: int
    prev_log_index: int
    prev_log_term: int
    prev_log_hash: bytes
    entries: _containers.RepeatedScalarFieldContainer[bytes]
    leader_commit: int
    clock_ms: int
    notice: bool
    def __init__(self, term: _Optional[int] = ..., prev_log_index: _Optional[int] = ..., prev_log_term: _Optional[int] = ..., prev_log_hash: _Optional[bytes] = ..., entries: _Optional[_Iterable[bytes]] = ..., leader_commit: _Optional[int] = ..., clock_ms: _Optional[int] = ..., notice: _Optional[bool] = ...) -> None: ...

class AppendEntriesReply(_message.Message):
    __slots__ = ("term", "success", "match_index", "hint_index", "hint_term")
    TERM_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    success: bool
    match_index: int
    hint_index: int
    hint_term: int
    def __init__(self, term: _Optional[int] = ..., success: _Optional[bool] = ..., match_index: _Optional[int] = ..., hint_index: _Optional[int] = ..., hint_term: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("term", "leader_commit", "clock_ms", "read_id")
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_COMMIT_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    term: int
    leader_commit: int
    clock_ms: int
    read_id: int
    def __init__(self, term: _Optional[int] = ..., leader_commit: _Optional[int] = ..., clock_ms: _Optional[int] = ..., read_id: _Optional[int] = ...) -> None: ...

class HeartbeatReply(_message.Message):
    __slots__ = ("term", "read_id", "last_log_index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    read_id: int
    last_log_index: int
    def __init__(self, term: _Optional[int] = ..., read_id: _Optional[int] = ..., last_log_index: _Optional[int] = ...) -> None: ...

class ReadIndexRequest(_message.Message):
    __slots__ = ("term", "read_id")
    TERM_FIELD_NUMBER: _ClassVar[int]
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    term: int
    read_id: int
    def __init__(self, term: _Optional[int] = ..., read_id: _Optional[int] = ...) -> None: ...

class ReadIndexReply(_message.Message):
    __slots__ = ("term", "read_id", "read_index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    READ_ID_FIELD_NUMBER: _ClassVar[int]
    READ_INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    read_id: int
    read_index: int
    def __init__(self, term: _Optional[int] = ..., read_id: _Optional[int] = ..., read_index: _Optional[int] = ...) -> None: ...

class TimeoutNow(_message.Message):
    __slots__ = ("term",)
    TERM_FIELD_NUMBER: _ClassVar[int]
    term: int
    def __init__(self, term: _Optional[int] = ...) -> None: ...

class RebuildRequest(_message.Message):
    __slots__ = ("term", "nonce")
    TERM_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    term: int
    nonce: int
    def __init__(self, term: _Optional[int] = ..., nonce: _Optional[int] = ...) -> None: ...

class RebuildReply(_message.Message):
    __slots__ = ("term", "nonce", "last_log_index", "last_log_term", "blank", "configurations")
    TERM_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    BLANK_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATIONS_FIELD_NUMBER: _ClassVar[int]
    term: int
    nonce: int
    last_log_index: int
    last_log_term: int
    blank: bool
    configurations: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, term: _Optional[int] = ..., nonce: _Optional[int] = ..., last_log_index: _Optional[int] = ..., last_log_term: _Optional[int] = ..., blank: _Optional[bool] = ..., configurations: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ForwardedCommand(_message.Message):
    __slots__ = ("term", "payload", "epoch")
    TERM_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    term: int
    payload: bytes
    epoch: int
    def __init__(self, term: _Optional[int] = ..., payload: _Optional[bytes] = ..., epoch: _Optional[int] = ...) -> None: ...

class ForwardRefused(_message.Message):
    __slots__ = ("request_id", "reason", "term", "epoch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: bytes
    reason: str
    term: int
    epoch: int
    def __init__(self, request_id: _Optional[bytes] = ..., reason: _Optional[str] = ..., term: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class ForwardFence(_message.Message):
    __slots__ = ("term", "boot_nonce", "epoch")
    TERM_FIELD_NUMBER: _ClassVar[int]
    BOOT_NONCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    term: int
    boot_nonce: int
    epoch: int
    def __init__(self, term: _Optional[int] = ..., boot_nonce: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class ForwardFenced(_message.Message):
    __slots__ = ("term", "boot_nonce", "epoch", "last_log_index")
    TERM_FIELD_NUMBER: _ClassVar[int]
    BOOT_NONCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAST_LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    term: int
    boot_nonce: int
    epoch: int
    last_log_index: int
    def __init__(self, term: _Optional[int] = ..., boot_nonce: _Optional[int] = ..., epoch: _Optional[int] = ..., last_log_index: _Optional[int] = ...) -> None: ...

class StateHash(_message.Message):
    __slots__ = ("index", "state_hash")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    index: int
    state_hash: bytes
    def __init__(self, index: _Optional[int] = ..., state_hash: _Optional[bytes] = ...) -> None: ...

class MatchIndices(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[MatchIndex]
    def __init__(self, members: _Optional[_Iterable[_Union[MatchIndex, _Mapping]]] = ...) -> None: ...

class MatchIndex(_message.Message):
    __slots__ = ("member_id", "index")
    MEMBER_ID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    member_id: int
    index: int
    def __init__(self, member_id: _Optional[int] = ..., index: _Optional[int] = ...) -> None: ...

class SnapshotHeader(_message.Message):
    __slots__ = ("term", "index", "size_bytes", "snapshot_id")
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_ID_FIELD_NUMBER: _ClassVar[int]
    term: int
    index: int
    size_bytes: int
    snapshot_id: str
    def __init__(self, term: _Optional[int] = ..., index: _Optional[int] = ..., size_bytes: _Optional[int] = ..., snapshot_id: _Optional[str] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotMessage(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: SnapshotHeader
    chunk: SnapshotChunk
    def __init__(self, header: _Optional[_Union[SnapshotHeader, _Mapping]] = ..., chunk: _Optional[_Union[SnapshotChunk, _Mapping]] = ...) -> None: ...

class SnapshotAnswer(_message.Message):
    __slots__ = ("ready", "resume_offset", "received", "failure")
    READY_FIELD_NUMBER: _ClassVar[int]
    RESUME_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ready: bool
    resume_offset: int
    received: bool
    failure: str
    def __init__(self, ready: _Optional[bool] = ..., resume_offset: _Optional[int] = ..., received: _Optional[bool] = ..., failure: _Optional[str] = ...) -> None: ...
