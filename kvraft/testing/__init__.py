"""Local clusters and HTTP tools for tests: ours, and those of applications that use kvraft.

    def test_register(kvraft_cluster):
        leader = kvraft_cluster.leader()
        assert leader.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201

| file | what it holds |
|---|---|
| `cluster.py` | `Cluster`: real processes of kvraft or etcd on loopback that know each other |
| `member.py` | `Member`: one of them; started, killed, paused, waited for, asked |
| `raw_http.py` | HTTP as bytes: exact statuses, header names and bodies, streams; asyncio and blocking |
| `plugin.py` | the pytest fixtures, and the members' logs in the report of a failed test |
| `ports.py` | loopback ports that no other test takes |
| `leash.py` | kills what a test run started, also when the run itself is killed |
| `run.py` | `make run`: three members in the foreground |

Nothing here is imported by a running member.
"""
