"""The networks and their uses: `settings` names the systems, `zoo` builds them, `losses` train them, `bundle` stores
one with all that scoring needs to know, `predictor` is the one forward pass, `predictions` its answers; `gradcam`
explains a DenseNet's head, `released` reads checkpoints of the paper's code.

Knows nothing of where images come from. Nothing is imported here: reading bundles or answers needs no torch.
"""
