"""The pure and the compiled form, side by side: whatever one says, the other must say to the byte.

`copies` has a checkout of each form, `answers` is a cluster in one process that prints what its clients are told, and
`python -m tests.forms` runs that, and seeds of the simulator, in both forms and compares what they print.
"""
