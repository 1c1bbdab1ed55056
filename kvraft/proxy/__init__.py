"""etcd's proxy mode: a local endpoint that forwards to whoever the members are now. The door is `server.serve`.

A request takes this way: `client` reads it from a connection and answers what is the proxy's own (`pages`); the rest
becomes a `forwarding`, which takes one endpoint after the other from the `director` until one answers, sends the
request over an `upstream` connection to it, and passes the answer on as it comes, to the byte where nothing has to
change.

Around it:

- `heads` reads heads and says what of them goes on; `bodies` finds the ends of bodies. Both are pure: read them first;
- `director` keeps the endpoints, in the order in which they are asked, and sets aside those that failed;
- `dialling` connects to an endpoint;
- `refresh` learns the endpoints from the members, and keeps their peer URLs in `cluster_file`, the only state;
- `counts` is what `/metrics` shows; `settings` what can be set.

Left out: the v3 API, which etcd's proxy of this name has not got either.
Sources: etcd v3.4.23 proxy/httpproxy/ and etcdmain/etcd.go (`startProxy`); RFC 9110, 9112.
"""
