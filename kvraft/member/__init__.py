"""One running member: joins the consensus core, storage, transport and the keyspace.

`member` makes every part and joins them; nothing else in here knows more than it is given. Four parts are its sides:
`client_port` is what clients ask, `peer_port` what peers send and the transport tells, `steps` what the core wants
done, `housekeeping` what is looked at ten times a second. Everything runs on one event loop; only storage has threads.

Files, in the order of a write where there is one:

    member          life and composition
    interfaces      what a member needs of disk and network
    settings        durations and limits
    client_port     the API's `Backend`: submit, quorum reads, views
    requests        what clients wait for, within limits: waiters (writes), reads (quorum reads)
    outcomes        how a request ends that has no answer of the keyspace, and how it is told
    raft_loop       drives the core: one step a wake-up, then disk and peers; disk_pace: whether a commit may be here
    steps           around each step: requests go in, what it decided is carried out
    peer_port       the transport's events: frames, refusals, hashes, sessions
    forwarding      commands of other members' clients, and their refusals
    fencing         what was on its way to the leader when a session was lost
    peer_memory     greetings: what this member says of itself, and whether it believes the others
    applier         committed entries into the keyspace, in order, in slices
    state_hashes    whose state went astray
    durable_state   flushes, compaction, snapshots both ways; log_room: how much of the log stays for followers
    backups         copies of the state that clients fetch
    chores          commands that no client asked for; expirer: when a sync is due
    cluster         who belongs to the cluster, and what is still to be published
    strict_check    changes of the members that put the cluster at risk
    membership_watch
                    other members are wanted, or other servers vote: the transport and the operator hear of it;
                    pending_urls: where members are by what is not applied yet
    reconfiguration which server comes, votes or goes next, on a leader
    leaving         the end of a member that was removed
    handover        leadership goes to another before a stop
    housekeeping    what nothing tells the moment of
    disk_watch      room on the disk, and old entries verified again
    garbage         when memory is cleared and given back
    leader_watch, rebuild_watch, join_watch
                    what the operator hears while there is no leader, or data is missing, or a cluster is joined
    replacement     whom this member removes once it votes; known_members: who they are, for a start without a state
    stats, status   /v2/stats and /v2/kvraft/status; figures: /metrics
    failure         why the member cannot go on

Left out: sockets and files, which `transport` and `storage` have, and HTTP, which `api_v2` has.
"""
