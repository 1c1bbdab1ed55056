"""What an operator may say, and what a member makes of it, before anything is opened or made.

- `flag_table`: every flag that is known, etcd's included, with what becomes of each;
- `flags`: reads the command line and `ETCD_*` into text with its source;
- `old_flags`: makes URLs of etcd 0.4's addresses;
- `config_file`: reads the text of `--config-file` into the same;
- `settings`: makes `Settings` of that, with every default and limit and its reason: the door is `from_flags`;
- `founding_flags`: which cluster is meant, by the flags or by the data directory;
- `discovery_flags`: who is asked which cluster is meant, if they do not say;
- `joining_flags`: how a member comes to a cluster that runs, or goes on alone;
- `listening_flags`: where it listens;
- `log_settings`: what is logged, where to, in which form;
- `urls`: the URLs of members.

It looks at no file and no socket: what the host says is found by `kvraft/start/`.
"""
