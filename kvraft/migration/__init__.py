"""Moving in and out: from an etcd, running or dead, from a file, into a kvraft or an etcd.

What moves is `contents.Contents`, values that know neither side. Around it:

- a stopped etcd's directory becomes one by `etcd_directory.py`: `etcd_wal.py` reads the log's files, `etcd_snapshot.py`
  snapshots, `etcd_entries.py` what an entry asks, `etcd_replay.py` applies it by the keyspace's own rules, and
  `protobuf_fields.py` reads protobuf by field number.

Left out: options, output, and how a server is asked (`kvraft/client/`).
"""
