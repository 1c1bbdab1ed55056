"""What a start does step by step, as far as it needs more than one room. `kvraft/cli.py` is its door.

- `giving_up`: whether a member may set its data aside.

What the host says; these know nothing of a member:

- `file_limit`: how many files may be open, and so how many clients are served;
- `path_owners`: why a directory cannot be used; `port_holders`: who listens on a port;
- `service_manager`: what systemd is told.
"""
