"""How good a model is: a `table` of predictions and labels, `metrics`, `statistics` with a bootstrap, and the `gate`.

`evaluate` makes the table of a bundle or a run; `maps` scores one map, beside a split's `reference`; `paired` compares
two systems, and `gate` judges a candidate against the champion.
Knows nothing of how a model is trained or put into service.
"""
