"""Build any network from its settings."""

from __future__ import annotations

import torch

from cxrgaze_ray.models.gazenet import GazeNet, GazeNetConfig


def build(config: GazeNetConfig, seed: int = 0) -> GazeNet:
    """Build a network with fresh weights; the same seed gives the same weights, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GazeNet(config)
