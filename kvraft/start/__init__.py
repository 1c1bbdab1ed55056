"""What a start does step by step, from flags that were read to a member that serves. The door is `start.start`.

- `start`: the steps, in their order;
- `config_file`: reads `--config-file`;
- `listeners`: the ports, bound before any file is touched; `data_directory`: whose data is there, and putting it back;
- `newcomers`: whether a member comes to a cluster that runs: `arriving` where an operator has added it, `adding` by
  itself (`--join`, `--replace`); `told_members` reads what they are told, `http_door` asks;
- `same_places`: whether URLs that are written differently lead to the same places;
- `discovering`: who founds the cluster with a member, where no flag names them; `service_door` asks the service;
- `members_of_the_day`: whom a member asks that rebuilds; `giving_up`: whether it may set its data aside;
- `running`: a member from its ports to its end, and once more if it rebuilds; `proxying`: the same of a proxy;
- `composition`: puts a member together: what each room is given of the settings and of the others;
- `tls`: TLS of a member, with `keepers` of its files;
- `log_files`: the log, opened; `exit_codes`: what the process ends with;
- `versions`: what `--version` prints.

What the host says; these know nothing of a member:

- `file_limit`: how many files may be open, and so how many clients are served; `thread_limit`: the threads of the
  loop's own executor, all taken at the start;
- `path_owners`: why a directory cannot be used; `port_holders`: who listens on a port;
- `service_manager`: what systemd is told; `signals`: what is done about signals.

This file imports nothing: whoever borrows a fact of the host does not get a member with it.
"""
