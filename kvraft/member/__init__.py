"""One running member: joins the consensus core, storage, transport and the keyspace."""
