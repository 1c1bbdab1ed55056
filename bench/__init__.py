"""The same workloads against etcd and kvraft, beside each other in one run: `make bench`."""
