"""The ways in which a forward pass is computed, each with a name that stands on every row.

`engine` names and chooses them; every other module computes one. May be imported from: `engine`, `forward`.
They know networks and hardware, and nothing of bundles, images or runs.
"""
