"""Planted deviations from etcd, each of which the differential test must find.

`catalogue.MUTANTS` lists them; `server` is kvraft's HTTP API over its keyspace with one of them planted in its own
process (the product has no switch for it); `python -m tests.conformance.mutants` hunts them all. `auth` has bugs of
authorization, each of which the tests of that must find, and `by_differential` those that the differential test with
auth finds, planted in a whole member (`member`).
"""
