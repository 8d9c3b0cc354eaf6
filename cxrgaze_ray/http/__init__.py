"""What every HTTP application here does alike: tokens, counted answers, and bodies bounded in time and memory.

`middleware` goes into an application, `proxy` before all of them in Serve's proxy; bodies share one `body_room`.
Knows nothing of models or retraining.
"""
