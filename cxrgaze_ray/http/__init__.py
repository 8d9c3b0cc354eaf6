"""What all HTTP applications here share: tokens, refusals, counted answers, and bodies bounded in time and memory.

`application` builds one from `middleware` and `refusals`; `proxy` stands before all of them in Serve's proxy, where
bodies share one `body_room`. Knows nothing of models or retraining.
"""
