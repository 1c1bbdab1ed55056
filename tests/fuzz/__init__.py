"""Fuzzers that know the structure of what they send. `python -m tests.fuzz TARGET --seconds 60 --seed 7`.

| target | sends | demands |
|---|---|---|
| http | conversations of raw requests to a member | HTTP and JSON, no 5xx, no hang, no traceback logged |
| peer-messages | bytes to every decoder of the peer protocol | a value, or `WireError` |
| core | messages that decode, in any order, to `Raft.step` | no assertion falls, whatever a peer claims |
| records | damaged records, groups and snapshots to storage and keyspace | a value, or one of the typed errors |
| settings | command lines, environments and configuration files | settings, or one line, and nothing touched |
| commands | damaged commands to the codec, good ones to a keyspace | a command that applies, or `CommandError` |

`engine` draws with hypothesis, so that a finding is shrunk; the same seed gives the same inputs. `guided` is another
kind: inputs without a grammar, guided by coverage.
"""
