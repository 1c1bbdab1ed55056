"""What must survive a crash, on LMDB, and nothing else.

Two environments, each with a thread that writes (decision 3 of the design):
the *log* (entries, hard state, what is remembered of peers) is synced for every batch and is the only disk on the path
of an acknowledgement; the *state* (nodes, history, configuration, applied index) is written behind it, each record once
a flush, and is always exactly the state at its index. A start loads the state and replays the log behind it.

Nothing on disk is believed (decision 4): every record has a checksum, entries form a hash chain, a watermark shows a
lost commit. The first error while writing ends the process. Nothing is ever cut off to make a file look sound.

    opening         the door: `open_storage` gives a `Storage` with `log`, `state` and `start`
    environment     the data directory: lock, identity, format; aside: what a rebuild sets aside, and the way back
    identity_keeper what it says of the cluster, while the member is at work
    going_alone     a cluster of one of what a survivor holds
    emptiness       whether there is anything in it; usability: whether a member can begin there
    log_place       the log on another disk, and its way there
    lmdb_file       one LMDB environment, examined before it is mapped
    free_pages      which pages of an LMDB file are free
    giving_back     free pages to the disk, freed memory to the system
    commit_marks    how a lost commit shows: meta pages, watermark
    codec           records as bytes
    log_store       the log; log_tables: within a transaction; log_recovery: creating and verifying it;
                    log_sizes: its bytes
    state_store     the state; state_tables: within a transaction
    spool           snapshots as files, on their way out and in
    backup_file     a backup as a file; backup_spool: those that a member has made for clients
    whole_file      a file for whoever asked: all of it, or what stood there before
    new_directory   a directory that begins with a restored state; examining: one that nobody uses, looked through
    writer          the storage threads, and the latch that keeps the first failure
    interfaces      what the stores need of the files below them; the simulator has others
    failpoints      places where tests break things
    errors          one line each for the operator
"""
