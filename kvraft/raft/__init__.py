"""Raft consensus as a pure function: inputs and the time go in, effects come out.

Follows Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (extended version), by section, and
Ongaro's thesis, "Consensus: Bridging Theory and Practice", where the paper is silent. Names are theirs.

What it does. Servers elect a leader (`election`), which appends commands to its log and sends them to the others
(`replication`). An entry that a majority of voters holds durably is committed and never lost; every server hands
committed entries, in order and once, to its state machine. A read is made linearizable without writing (`reads`), a
server that is far behind gets a snapshot (`snapshots`), one that lost its disk gets everything back (`rebuild`), and
the set of servers changes one by one (`membership`).

Where to look, each file importing only from those above it:

    entries         a log position and its byte form; the chain hash that binds it to everything before
    quorum          majorities
    settings        durations and limits
    configuration   voters and learners
    messages        what servers send each other
    inputs          what goes into a step
    effects         what comes out, and what the caller owes for it
    restored        what a server remembers over a restart, and how it reads old entries
    durability      which batches, and so what of the log, this server's disk holds
    log             the log: its tail in memory, its ends
    progress        what a leader knows of one follower: probe, replicate, snapshot
    state           a server's variables in any role; hard state and messages held back for it
    roles           the variables of each role; becoming a follower; hearing a leader
    rebuild         a server that lost its disk asks the others what it may have promised
    snapshots       wanting, installing and outliving snapshots
    replication     append, send, acknowledge, commit
    reads           ReadIndex
    membership      configuration changes, leadership transfer
    election        votes, pre-votes, terms, becoming a leader, CheckQuorum
    invariants      what must hold after every step
    core            the door: `Raft.step`

Left out on purpose. No I/O, threads, clocks, logging or global randomness: the caller brings the time and a seeded
`random.Random`, carries out the effects and reports back. No state machine: commands are bytes. No sessions or request
ids: retries are the caller's. No leases for reads, which would trust clocks. No joint consensus: single-server changes
reach every configuration. No transfer of snapshot bytes, which travel beside the core.
"""
