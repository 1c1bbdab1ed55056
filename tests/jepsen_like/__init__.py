"""Faults on real members on a real disk, and programs that judge what clients saw.

clients.py      64 clients that write and note down every outcome
watch_logs.py   one watcher a member that keeps every event it is sent
kill_rounds.py  kill -9 while they write: `python -m tests.jepsen_like.kill_rounds DIRECTORY`
check.py        the judge: reads the directory and nothing else; imports nothing of kvraft or of the writers
"""
