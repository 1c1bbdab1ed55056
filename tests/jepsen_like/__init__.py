"""Faults on real members on a real disk, and programs that judge what clients saw.

    python -m tests.jepsen_like run --workload W --nemesis N --seconds S --seed X [--secure]
    python -m tests.jepsen_like.failover --kills 20
    python -m tests.jepsen_like.kill_rounds DIRECTORY

What a run is made of:
network.py          a network namespace for each member; cuts, loss, resets, slow links, links that one side can dial
delays.py           links as long as between continents
names.py            hosts files and a name server, which members know each other by
db.py               the members in it; their clocks, CPUs and disks; etcd and kvraft side by side in one network
secure.py           TLS for clients and peers, auth, and the way in that is left
nemesis.py          kinds of faults, and schedules that follow from a seed; shapes.py: who is cut from whom
workloads/          what clients do and how it is judged, one file a workload
session.py history.py event_log.py    a client, what it notes down, and a watcher
linearizability.py  a search for a legal order, key by key; index_order.py: is the order by index legal?
histories.py        good and bad histories, for the tests of both
run.py report.py    one run, and its page of results
failover.py         how long nobody's write is acknowledged after a leader's death, beside etcd

The kill rounds, many clients against one kind of fault on loopback:
clients.py          64 clients that write and note down every outcome
backups.py          backups of every member meanwhile, and clusters that go on from one
watch_logs.py       one watcher a member that keeps every event it is sent
kill_rounds.py      kill -9 while they write
check.py            the judge: reads the directory and nothing else; imports nothing of kvraft or of the writers
"""
