"""What a start does step by step, as far as it needs more than one room. `kvraft/cli.py` is its door.

- `giving_up`: whether a member may set its data aside.
"""
