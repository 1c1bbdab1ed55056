"""Moving in and out: from an etcd, running or dead, from a file, into a kvraft or an etcd.

What moves is `contents.Contents`, values that know neither side. Around it:

- a stopped etcd's directory becomes one by `etcd_directory.py`: `etcd_wal.py` reads the log's files, `etcd_snapshot.py`
  snapshots, `etcd_entries.py` what an entry asks, `etcd_replay.py` applies it by the keyspace's own rules, and
  `protobuf_fields.py` reads protobuf by field number;
- a running cluster becomes one by `reading.py`, and is watched by `following.py`; what a kvraft hides is found by
  `hidden_names.py`;
- a file becomes one, and one a file, by `json_lines.py`;
- `founding_backup.py` makes a backup of one, for `kvraft restore`: the way for indices, hashes and auth;
- `changes.py` is what has to be done to one tree so that it is like another or follows it, pure; `writing.py` does it,
  `account_writing.py` makes users and roles;
- `moving.py` tells the story from the first copy to the comparison at the end, `state_file.py` remembers how far it is.

Left out: options, output, and how a server is asked (`kvraft/client/`).
"""
