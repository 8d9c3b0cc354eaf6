"""The networks and what is made of them: `unet`, `densenet`, `gazenet` and `zoo` build, `losses` train them,
`bundle` stores one with all that scoring needs to know, `predictor` is the one forward pass, `predictions` its answers.

Knows nothing of where images come from. Nothing is imported here: who reads bundles or answers needs no torch.
"""
