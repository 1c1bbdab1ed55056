"""Planted bugs: each is put into the running code by a context manager that only tests can reach.

`catalogue.MUTANTS` lists them with the numbers of the fault programme (M1, M2, ...) and the invariant that must fall.
`hunt` searches seeds until the checkers raise, or, for a bug outside the simulator, runs the unit test that the bug
names (`under_test`); `python -m tests.simulation.mutants` hunts them all.
"""
