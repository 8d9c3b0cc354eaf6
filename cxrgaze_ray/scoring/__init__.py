"""Score an archive: Ray Data reads the plan and decodes, Serve scores, the driver commits shards.

Read in this order: `driver` (all of it in order), `planning` (which run a command means), `pipeline` (the two stages
between plan and rows), `decode`, `score`, `gather` (rows into shards, and commits), `estimate` (what it would take).

Nothing is imported here: decoding workers load this package, and need no torch.
"""
