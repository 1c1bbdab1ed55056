"""Every route and method, by everybody, in every kind of request, beside a live etcd.

Auth is on or off, and roles are as somebody thought of them, or by chance.

- `cells`: what a cell is, and all of them;
- `servers`: both servers, with a second door for whoever shows a certificate;
- `run`: a matrix on both servers, and what differs;
- `python -m tests.conformance.auth_matrix [--cells N] [--seconds S] [--seed S]`: all of them, or as many as that.

A password costs etcd a hash each time, a certificate does not: `make conformance` draws some of both, `make torture`
begins with all cells without a hash and goes on for as long as its share lasts.
"""
