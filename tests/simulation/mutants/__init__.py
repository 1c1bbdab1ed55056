"""Planted bugs: each is put into the running code by a context manager that only tests can reach.

`catalogue.MUTANTS` lists them with the numbers of the fault programme (M1, M2, ...) and the invariant that must fall.
`hunt` searches seeds until the checkers raise; `python -m tests.simulation.mutants` hunts them all.
"""
