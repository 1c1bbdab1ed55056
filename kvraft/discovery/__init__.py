"""How members with empty directories find each other, where no flag names them. The door is `founders`.

What comes out is what `--initial-cluster` would have said. Nothing is written here, and nothing of a member runs yet:
each step blocks, and a signal ends it.

- `founders`: which of the two ways is gone, and what is refused at its end;
- `token`: by a token at a discovery service, step by step; `registry`: what the service's answers say of it;
- `srv_records`: by SRV records, of which `name_server` asks the resolver library, the only one that knows it;
- `interfaces`: what asks the service, and what looks names up: `kvraft/start/` has both.

Serving discovery to others needs none of this: a token is a directory of the keyspace.
"""
