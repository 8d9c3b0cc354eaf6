"""A model in service, watched and replaced: `monitoring`, `drift` between two sides, `retraining`, and the `webhook`.

`prometheus` writes gauges of everything that runs outside Ray.
Builds on the rooms that score, train and judge; none of them knows of it.
"""
