"""The registry: published `versions` and aliases, their `ledger`, its `audit`, and `looks` at test splits.

`pin` names the exact weights of one version: what runs, services and reports hold on to.
Knows nothing of scoring, training or gates.
"""
