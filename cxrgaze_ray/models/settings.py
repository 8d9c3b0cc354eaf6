"""Settings of every network, which a bundle's description holds; they can be read without torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from cxrgaze_ray.config import Settings, Text
from cxrgaze_ray.errors import ConfigError

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

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for size in self.sizes:
            if size[0] % self.stride or size[1] % self.stride:
                raise ValueError(f"{size[0]}x{size[1]} is not a multiple of {self.stride} each way")
        return self


class DenseNetSettings(NetworkConfig):
    """DenseNet in torchvision's words; the defaults are DenseNet-201."""

    growth_rate: Width = 32
    block_config: tuple[Layers, Layers, Layers, Layers] = (6, 12, 48, 32)
    init_features: Width = 64

    contrastive_size: tuple[Pixels, Pixels] = (320, 256)
    """Height and width in the contrastive phase."""

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Return the sizes of the contrastive phase and of all others."""
        return (self.input_size, self.contrastive_size)


class GazeNetConfig(DenseNetSettings):
    """Settings of the paper's network; the presets are settings of the same code."""

    system: Literal["gazenet"] = "gazenet"

    widths: tuple[Width, ...] = Field((64, 128, 256, 512, 1024), min_length=2, max_length=8)
    """Channels of the U-Net encoder's levels."""

    tap: Literal["denseblock4", "transition3"] = "denseblock4"
    """DenseNet output from which the decoder starts."""

    se_reduction: Width = 16
    """Factor by which squeeze and excite reduces the channels."""

    fusion_hidden: Width = 64
    dropout: float = Field(0.25, ge=0, lt=1)
    """Hidden units of the fusion classifier, and its dropout."""

    joint: bool = False
    """Carry the learnable weight of the joint loss, which only phase joint trains."""


class DenseNetConfig(DenseNetSettings):
    """Settings of DenseNet with a linear head; the two systems differ in how they are trained."""

    predicts: ClassVar[tuple[Answer, ...]] = ("classes",)

    system: Literal["dnet201", "dnet201-cl"] = "dnet201"


def _system_of(value: Any) -> str:
    """Return the system of settings; those written before there was more than one network name none."""
    named = value.get("system", "gazenet") if isinstance(value, dict) else getattr(value, "system", "")
    return named if isinstance(named, str) else ""


def _tags(config: type[NetworkConfig]) -> tuple[str, ...]:
    return get_args(config.model_fields["system"].annotation)


_CONFIGS: tuple[type[NetworkConfig], ...] = (GazeNetConfig, DenseNetConfig)
CONFIGS: dict[str, type[NetworkConfig]] = {system: config for config in _CONFIGS for system in _tags(config)}
"""Class of settings of each system."""

AnyNetworkConfig = Annotated[
    Annotated[GazeNetConfig, Tag("gazenet")]
    | Annotated[DenseNetConfig, Tag("dnet201")]
    | Annotated[DenseNetConfig, Tag("dnet201-cl")],
    Discriminator(_system_of),
]
"""Settings of any network, told apart by their system."""

_DENSENETS: dict[Preset, dict[str, Any]] = {
    "full": {},
    "small": {
        "growth_rate": 16,
        "block_config": (6, 12, 24, 16),
        "init_features": 32,
        "input_size": (320, 256),
        "contrastive_size": (320, 256),
    },
    "tiny": {
        "growth_rate": 8,
        "block_config": (2, 4, 6, 4),
        "init_features": 16,
        "input_size": (160, 128),
        "contrastive_size": (160, 128),
    },
}
_GAZENETS: dict[Preset, dict[str, Any]] = {
    "full": {},
    "small": {"widths": (24, 48, 96, 192, 256), "se_reduction": 8},
    "tiny": {"widths": (8, 16, 24, 32, 48), "se_reduction": 4, "fusion_hidden": 32},
}
_PRESETS: dict[System, dict[Preset, dict[str, Any]]] = {
    "gazenet": {preset: _DENSENETS[preset] | _GAZENETS[preset] for preset in get_args(Preset)},
    "dnet201": _DENSENETS,
    "dnet201-cl": _DENSENETS,
}


def architecture(system: System, preset: Preset, overrides: dict[str, Any] | None = None) -> NetworkConfig:
    """Return the settings of a system's network in a preset, with some of them replaced.

    Raises
    ------
    ConfigError
        If there is no such system, or an override has a wrong name or value.
    """
    if not isinstance(system, str) or system not in _PRESETS:
        raise ConfigError(f"There is no system {system}.", f"The systems are {', '.join(_PRESETS)}.")
    if not isinstance(preset, str) or preset not in _PRESETS[system]:
        raise ConfigError(f"There is no preset {preset}.", f"The presets are {', '.join(_PRESETS[system])}.")
    if misplaced := {"system", "preset"} & (overrides or {}).keys():
        raise ConfigError(f"Setting architecture.{min(misplaced)}: it has its place outside architecture.")
    values = {"system": system, "preset": preset} | _PRESETS[system][preset] | (overrides or {})
    return CONFIGS[system].checked(values, "Setting", lambda name: f"architecture.{name}")


def overrides_of(config: NetworkConfig) -> dict[str, Any]:
    """Return what settings replace in their preset; of one that is not among the presets, all of full's."""
    values, system = config.model_dump(), config.system
    preset = architecture(system, config.preset if config.preset in _PRESETS[system] else "full").model_dump()
    return {name: value for name, value in values.items() if value != preset[name]}


PRESETS: dict[Preset, GazeNetConfig] = {
    preset: GazeNetConfig(preset=preset, **_PRESETS["gazenet"][preset]) for preset in get_args(Preset)
}
"""Settings of GazeNet."""
