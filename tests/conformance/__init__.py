"""kvraft's HTTP API held against the real etcd 3.4.23 (`etcd --enable-v2`, Debian's package).

- `wire`: a small blocking HTTP client that shows an answer exactly as it came: header case and order, chunks;
- `systems`: starts what answers: etcd, kvraft of one or three members;
- `comparison`: two answers, what of them may differ (times, cluster ids) and the first difference in words;
- `test_golden`, `test_watch`, `test_members`, `test_python_etcd`, `test_recordings`: fixed stories; with `etcdctl`,
  which runs it, `test_etcdctl` and `test_etcdctl_members`;
- `differential`: generated stories (`python -m tests.conformance.differential --requests N --seed S`);
- `mutants`: shows that the differential test finds planted deviations (`python -m tests.conformance.mutants`).

`CONFORMANCE_SUBJECT` (`kvraft`, the default, `memory` or `etcd`: see `systems`) names what
is held against etcd.
"""
