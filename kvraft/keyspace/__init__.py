"""The etcd v2 state machine, pure: committed commands go in, events, errors and records come out.

`keyspace.Keyspace` applies commands in log order and is a function of the log alone: no clock,
no randomness, no I/O.
Around it:

- `commands.py` what can be asked, `command_codec.py` its bytes in an entry; `answers.py` with `events.py` and
  `errors.py` what it comes to;
- `store.py` etcd's operations on keys, `chronicle.py` what each change comes to: index, history, hash, watchers;
- `tree.py` files and directories, `live_tree.py` the applied tree with all that hangs on it;
- `views.py` nodes as events show them;
- `json_text.py` values as Go's JSON strings, the form in which they are held, stored and served;
- `listing.py` a GET as JSON in fragments, consistent as of its start while writes go on;
- `expiry.py` which nodes are due, by the log's clock; `removal.py` removed subtrees, taken apart in slices;
- `event_history.py` the last events, `watchers.py` who wants them: history first, then live;
- `records.py` state as bytes; `dirty_state.py` what a flush will write;
- `changes.py` a flush and `loading.py` a restart, both in slices;
- `cluster.py` who belongs to the cluster, where, and who was removed;
- `accounts.py` users, roles and auth, `account_commands.py` what changes them, `account_records.py` their records;
- `state_hash.py` what members compare; `stats.py` the counters of `/v2/stats/store`.

Left out: time, replication, HTTP, and when anything is flushed or expired.
"""
