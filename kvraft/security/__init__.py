"""Who somebody is and what he may do; and TLS: certificates in, encrypted connections out. It knows no other room.

Users:

- `passwords`: hashed and compared on threads of their own, bounded; `system_bcrypt`: by the system's library;
- `logins`: what an Authorization header says, and which of them were found right;
- `attempts`: how often somebody may be wrong;
- `rights`: what patterns allow, pure.

TLS, for clients and between members:

- `files`: what an operator gives for one kind of listener, as a value;
- `credentials`: the doors to it. Files become contexts, read anew when they change; a broken file changes nothing;
- `certificates`: what a certificate says and whom it covers, as pure functions;
- `ciphers`: Go's names of cipher suites, and OpenSSL's;
- `self_signed`: what `--auto-tls` makes;
- `engine`: one TLS session without I/O, and what its errors mean in words;
- `connection`: an established one, which looks to its protocol like any other transport;
- `tls_door`: the acceptor's handshakes, bounded in number, time and turns, and what is no TLS at all;
- `dialling`: the dialler's handshake; `origins`: whether a certificate is its sender's, by etcd's rules.

It has its own transport where uvloop has one, because that one gives nobody a chance before and after the handshake
(what is no TLS, who is revoked), forgets an answer whose client only stopped sending, and counts nothing
(docs/decisions.md, 2026-11-29).

`cryptography` is imported when the first certificate is looked at: a member without TLS never does.
"""
