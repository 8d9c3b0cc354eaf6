"""The registry: published `versions` and aliases, their `ledger`, its `audit`, and `looks` at test splits.

`pin` names the exact weights of one version, which runs, services and reports keep.
Knows nothing of scoring, training or gates.
"""
