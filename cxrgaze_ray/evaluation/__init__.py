"""How good a model is: a `table` of predictions and labels, `metrics`, `statistics` with a bootstrap, and the `gate`.

`answers` makes the table of a bundle, by workers of a cluster where there is one (`pool`), `evaluate` that of a run
and the metrics of both; `maps` scores one map, beside a split's `reference`; `paired` compares two systems, and `gate`
judges a candidate against the champion.
Knows nothing of how a model is trained or put into service.
"""
