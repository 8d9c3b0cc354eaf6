"""What the settings of several networks have in common; they can be read without torch."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from cxrgaze_ray.config import Settings, Text

System = Literal[
    "gazenet", "mt-unet", "gazegnn", "inception-resnet-v2", "unet-s", "res-se-unet", "dnet201", "dnet201-cl"
]
"""The networks that the paper compares, by name; ``gazenet`` is the paper's own."""

SYSTEMS: tuple[System, ...] = get_args(System)

Preset = Literal["full", "small", "tiny"]
"""full: the paper's network. small: for one modest GPU. tiny: trains in minutes on two cores."""

Answer = Literal["classes", "saliency"]
BOTH: tuple[Answer, ...] = get_args(Answer)
"""What a network may predict: probabilities of the classes, the reader's gaze, or both."""

TripletMining = Literal["batch_all", "batch_hard", "rowwise_sum"]
"""How triplets are chosen: see `losses.triplet_loss`."""

STRIDE = 32
"""Height and width of a DenseNet's input must be multiples of this."""

Width = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Pixels = Annotated[int, Field(ge=1, le=8192)]


class NetworkConfig(Settings):
    """What the settings of all networks have in common."""

    predicts: ClassVar[tuple[Answer, ...]] = BOTH
    """What the network predicts."""

    needs_gaze: ClassVar[bool] = False
    """Whether the network reads the reader's gaze beside the image: then it can score no archive."""

    stride: ClassVar[int] = STRIDE
    """Height and width of the input must be multiples of this."""

    system: System
    """Name of the network."""

    preset: Text = "full"
    """Name of these settings."""

    input_size: tuple[Pixels, Pixels] = (640, 512)
    """Height and width of the network's input."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Return every input size that a training may use."""
        return (self.input_size,)

    @property
    def fits_imagenet(self) -> bool:
        """Return whether there are published ImageNet weights for a network of this size."""
        return False

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for size in self.sizes:
            if size[0] % self.stride or size[1] % self.stride:
                raise ValueError(f"{size[0]}x{size[1]} is not a multiple of {self.stride} each way")
        return self


def has_defaults(config: NetworkConfig, *names: str) -> bool:
    """Return whether these settings have the values that their class gives them."""
    fields = type(config).model_fields
    return all(getattr(config, name) == fields[name].default for name in names)


class DenseNetSettings(NetworkConfig):
    """DenseNet in torchvision's words; the defaults are DenseNet-201."""

    stride: ClassVar[int] = STRIDE

    growth_rate: Width = 32
    block_config: tuple[Layers, Layers, Layers, Layers] = (6, 12, 48, 32)
    init_features: Width = 64

    contrastive_size: tuple[Pixels, Pixels] = (320, 256)
    """Height and width in the contrastive phase."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Return the sizes of the contrastive phase and of all others."""
        return (self.input_size, self.contrastive_size)

    @property
    def fits_imagenet(self) -> bool:
        """Return whether this is DenseNet-201, whose weights torchvision publishes."""
        return has_defaults(self, "growth_rate", "block_config", "init_features")


class UNetSettings(NetworkConfig):
    """A U-Net of five levels."""

    stride: ClassVar[int] = 16

    widths: tuple[Width, Width, Width, Width, Width] = (64, 128, 256, 512, 1024)
    """Channels of the U-Net encoder's levels, full resolution first."""

    head: Literal["conv3x3", "conv1x1"] = "conv3x3"
    """Layers before the map's softmax: the released code's 3x3 and 1x1 convolutions, or the paper's 1x1 alone."""


class ResidualSettings(UNetSettings):
    """A U-Net whose encoder levels are residual, with squeeze and excite."""

    se_reduction: Width = 16
    """Factor by which squeeze and excite reduces the channels."""

    shortcut: Literal["conv3x3", "identity"] = "conv3x3"
    """Shortcut of a level: the released code's convolution, or the paper's identity, new channels filled with zeros."""

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        if min(self.widths) < self.se_reduction:
            raise ValueError(f"se_reduction {self.se_reduction} leaves no channel of {min(self.widths)}")
        if self.shortcut == "identity" and list(self.widths) != sorted(self.widths):
            raise ValueError("shortcut identity needs widths that never decrease")
        return self


class FusionSettings(NetworkConfig):
    """A classifier of pooled features."""

    fusion_hidden: Width = 64
    dropout: float = Field(0.25, ge=0, lt=1)
    """Hidden units of the fusion classifier, and its dropout."""
