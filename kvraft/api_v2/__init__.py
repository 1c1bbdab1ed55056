"""The etcd v2 HTTP API of one member. The door is `server.serve`.

A request takes this way: a front (`fast_protocol` for plain requests; else `aiohttp_front`, which `late_front` imports
once clients are served, with `aiohttp_connection` and `request_splitter`) hands it to `app`, which knows paths and
methods; `key_requests` turns what stands below /v2/keys into a command, a read or a watch; `keys` asks the `backend`
for it; `key_responses` makes the JSON; `answers` frames it as Go's net/http does. `exchange` carries it out.

Around it:

- `targets`, `go_forms` and `go_media_types` read paths, queries and forms as Go does; `go_json` writes as Go does;
- `go_json_reader`, with its `go_json_scanner`, and `go_urls` read the bodies of the other endpoints, and refuse them,
  as Go and etcd do;
- `watches` keeps open watches; `unread` bounds what slow clients leave in front of their sockets;
- `members`, `stats`, `auth`, `backup` and `misc` are the other endpoints;
- `cors` lets pages of other sites in;
- `errors` makes the answers that are not the keyspace's;
- `settings` what can be set; `backend` what a member must offer; `listening` where clients connect.

Pure, and to be read first: `key_requests`, `key_responses`, `targets`, `go_forms`, `answers`, `request_splitter`.
Left out: HTTP/2; etcd's proxy mode is `kvraft/proxy/`.
"""
