"""Sharded logs, by polling: one machine, and a dialect for each service that keeps such logs.

A record's way: `roster`, or `leases` where daemons share a stream, says which shards are read;
`polling` reads a page; `reading` numbers it and holds it with its shard's mark; `lanes` hands it
out; `machine` moves the mark once it is settled; `marks` writes that down. `seeking` sends shards
elsewhere, and `rereading` reads a part once more beside all that.
"""
