"""Build any network from its settings."""

from __future__ import annotations

from typing import Any, overload

import torch

from cxrgaze_ray.models.dnet import DNet
from cxrgaze_ray.models.gazegnn import GazeGNN
from cxrgaze_ray.models.gazenet import GazeNet
from cxrgaze_ray.models.inception import InceptionResNetV2
from cxrgaze_ray.models.network import Network
from cxrgaze_ray.models.settings import (
    DenseNetConfig,
    GazeGNNConfig,
    GazeNetConfig,
    InceptionConfig,
    MTUNetConfig,
    NetworkConfig,
    ResSEUNetConfig,
    UNetSConfig,
)
from cxrgaze_ray.models.unets import MTUNet, ResSEUNet, UNetS

_NETWORKS: dict[type[NetworkConfig], Any] = {
    GazeNetConfig: GazeNet,
    MTUNetConfig: MTUNet,
    GazeGNNConfig: GazeGNN,
    InceptionConfig: InceptionResNetV2,
    UNetSConfig: UNetS,
    ResSEUNetConfig: ResSEUNet,
    DenseNetConfig: DNet,
}
"""Class of the network of each class of settings."""


@overload
def build(config: GazeNetConfig, seed: int = 0) -> GazeNet: ...
@overload
def build(config: NetworkConfig, seed: int = 0) -> Network: ...
def build(config: NetworkConfig, seed: int = 0) -> Network:
    """Build a network with fresh weights; the same seed gives the same weights, whatever was drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Network = _NETWORKS[type(config)](config)
        return network
