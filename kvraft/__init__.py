"""kvraft: a key-value store replicated by Raft that speaks the etcd v2 HTTP API."""
