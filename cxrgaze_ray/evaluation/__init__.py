"""How good a model is: `answers` beside what is known, `metrics`, `statistics` and their bootstrap, and the `gate`.

`evaluate` gets answers of a bundle or a run; `gate` judges a candidate against the champion.
Knows nothing of how a model was trained or comes into service.
"""
