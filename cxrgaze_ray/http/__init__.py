"""What all HTTP applications here do alike: tokens, refusals, counted answers, and bodies bounded in time and memory.

`application` makes one, of `middleware` and with `refusals`; `proxy` stands before all of them in Serve's proxy, where
bodies share one `body_room`. Knows nothing of models or retraining.
"""
