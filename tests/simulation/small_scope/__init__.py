"""Every way in which three real cores can behave within small limits (fault programme 3.3: small-scope search).

Breadth-first over what can happen next: a message is delivered, lost or delivered twice, a timer runs out at any
moment, a client proposes, a disk completes a batch, a server crashes and starts from what was durable. The cores are
the product's own; states are compared by hash and up to a renaming of servers. Most bugs of consensus need few
servers, terms and entries, so a search that misses nothing within small limits says more than its size suggests.

    scope     the limits, and named sets of them
    image     what of a server counts as its state, under a renaming of servers
    server    one server: a frozen core, its disk, what waits for the disk; and what each action makes of it
    safety    what must hold in every state
    search    the states of the cluster, level by level
    story     the shortest way to a finding, as a person reads it
    bugs      planted bugs that the search must find

What makes it fast: a server's next state depends on nothing but its own and the action, so each pair is computed by
the core once and looked up ever after; the cluster's states are tuples of numbers.

What it leaves out: reads, snapshots, membership changes, leadership transfer, and time: any timer may run out at any
moment, and leases stand against nobody, so more elections happen here than can happen. PreVote, which only ever
prevents elections, is left out unless a scope asks for it.
"""
