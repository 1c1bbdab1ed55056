"""Backups: what is in one, whether it is whole, and new members that begin with it.

A member makes the file (`kvraft/storage/backup_file.py` has its form, docs/backup-format.md says it in words).

    state           the keyspace of a backup: its records as a start would load them
    contents        what a backup or a stopped member's directory holds, for people
    verification    every record of either, read and checked
    new_cluster     the cluster that a restore founds: its ids, and where its log begins
    restore         the directory of one of its members
    fetching        a backup on its way from a cluster into a file
    answers         what a member answers to whoever asks for one
    part            what has come of it, beside that file

Left out: when it is fetched: that is cron's business.
"""
