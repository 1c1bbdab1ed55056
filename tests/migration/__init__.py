"""Moving in and out: etcd directories, live clusters, files."""
