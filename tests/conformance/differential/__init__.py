"""Generated sequences of requests, sent to etcd and to kvraft; every answer and every event must agree.

- `steps`: what a sequence is made of, and how a step becomes a request;
- `generate`, `vocabulary`: sequences from a seed;
- `pair`: the two servers, aligned to the same index, so that bodies compare byte for byte;
- `run`: one sequence on a pair;
- `watches`: watches opened by a sequence, and etcd's documented bugs, the only differences that are excused;
- `coverage`: counts, and the rows of the contract that must be hit;
- `accounts`: the same with auth on, users and roles by chance;
- `shrink`: from a failing sequence to a short one;
- `campaign`: any number of requests from one seed (`python -m tests.conformance.differential`).
"""
