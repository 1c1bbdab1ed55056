"""Who somebody is and what he may do. It knows nothing of the other rooms.

Users:

- `passwords`: hashed and compared on threads of their own, bounded;
- `logins`: what an Authorization header says, and which of them were found right;
- `attempts`: how often somebody may be wrong;
- `rights`: what patterns allow, pure.
"""
