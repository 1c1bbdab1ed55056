"""Three real members on a real disk under mixed load for long: what they take of the machine must become flat.

`python -m tests.soak --minutes 60` prints a row at intervals and judges the second half at the end.

- `load`: the clients, all of whose choices follow from a seed;
- `flatness`: whether a series has become flat;
- `__main__`: members, restarts, the table and the verdict.
"""
