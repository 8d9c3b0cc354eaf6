"""A model in service, watched and replaced: `monitoring`, `drift` between two sides, `retraining`, and the `webhook`.

`prometheus` writes gauges of what runs outside Ray.
Builds on all that scores, trains and judges; none of those know of it.
"""
