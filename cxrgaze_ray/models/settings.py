"""Settings of the network, which a bundle's description holds; they can be read without torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cxrgaze_ray.config import Settings, Text

STRIDE = 32
"""Height and width must be multiples of this."""


Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Pixels = Annotated[int, Field(ge=STRIDE, le=8192)]


class GazeNetConfig(Settings):
    """Settings of the network; the presets are settings of the same code."""

    preset: Text = "full"
    """Name of these settings."""

    widths: tuple[Width, ...] = Field((64, 128, 256, 512, 1024), min_length=2, max_length=8)
    """Channels of the U-Net encoder's levels."""

    growth_rate: Width = 32
    block_config: tuple[Layers, Layers, Layers, Layers] = (6, 12, 48, 32)
    init_features: Width = 64
    """DenseNet, in torchvision's words; the defaults are DenseNet-201."""

    tap: Literal["denseblock4", "transition3"] = "denseblock4"
    """DenseNet output from which the decoder starts."""

    se_reduction: Width = 16
    """Factor by which squeeze and excite reduces the channels."""

    fusion_hidden: Width = 64
    dropout: float = Field(0.25, ge=0, lt=1)
    """Hidden units of the fusion classifier, and its dropout."""

    input_size: tuple[Pixels, Pixels] = (640, 512)
    """Height and width of the network's input."""

    contrastive_size: tuple[Pixels, Pixels] = (320, 256)
    """Height and width in the contrastive phase."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for size in (self.input_size, self.contrastive_size):
            if size[0] % STRIDE or size[1] % STRIDE:
                raise ValueError(f"{size[0]}x{size[1]} is not a multiple of {STRIDE} each way")
        return self


PRESETS = {
    "full": GazeNetConfig(),
    "small": GazeNetConfig(
        preset="small",
        widths=(24, 48, 96, 192, 256),
        growth_rate=16,
        block_config=(6, 12, 24, 16),
        init_features=32,
        se_reduction=8,
        input_size=(320, 256),
        contrastive_size=(320, 256),
    ),
    "tiny": GazeNetConfig(
        preset="tiny",
        widths=(8, 16, 24, 32, 48),
        growth_rate=8,
        block_config=(2, 4, 6, 4),
        init_features=16,
        se_reduction=4,
        fusion_hidden=32,
        input_size=(160, 128),
        contrastive_size=(160, 128),
    ),
}
"""full: the paper's network. small: for one modest GPU. tiny: trains in minutes on two cores."""
