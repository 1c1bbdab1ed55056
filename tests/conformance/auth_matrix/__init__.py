"""Every route and method, by everybody, in every kind of request, beside a live etcd.

Auth is on or off, and roles are as somebody thought of them, or by chance.

- `cells`: what a cell is, and all of them;
- `run`: a matrix on both servers, and what differs;
- `python -m tests.conformance.auth_matrix [--cells N] [--seed S]`: all of them, or so many drawn from a seed.

A cell whose password is not remembered costs etcd a hash, so `make test` draws some and `make torture` draws more.
"""
