"""Settings of every network, which a bundle's description holds, and their presets; they can be read without torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Discriminator, Field, Tag, model_validator

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.families import (
    BOTH,
    STRIDE,
    SYSTEMS,
    Answer,
    DenseNetSettings,
    FusionSettings,
    Layers,
    NetworkConfig,
    Pixels,
    Preset,
    ResidualSettings,
    System,
    TripletMining,
    UNetSettings,
    Width,
    has_defaults,
)

__all__ = [  # families holds the lower half; others import from here
    "BOTH", "CLASSIFYING_PHASES", "CONFIGS", "HEAD_PHASE", "PRESETS", "SYSTEMS", "WITH_DENSENET", "Answer",
    "AnyNetworkConfig", "DenseNetConfig", "DenseNetSettings", "FusionSettings", "GazeGNNConfig", "GazeNetConfig",
    "InceptionConfig", "MTUNetConfig", "NetworkConfig", "Preset", "ResSEUNetConfig", "ResidualSettings", "System",
    "TripletMining", "UNetSConfig", "UNetSettings", "architecture", "overrides_of",
]  # fmt: skip

_LEAST_OF_INCEPTION = 96
"""Height and width of which its unpadded convolutions leave a pixel at the end, rounded up to the stride."""


class GazeNetConfig(DenseNetSettings, ResidualSettings, FusionSettings):
    """Settings of the paper's network; the presets are settings of the same code."""

    system: Literal["gazenet"] = "gazenet"

    tap: Literal["denseblock4", "transition3"] = "denseblock4"
    """DenseNet output from which the decoder starts."""

    joint: bool = False
    """Carry the learnable weight of the joint loss, which only phase joint trains."""


class MTUNetConfig(UNetSettings, FusionSettings):
    """Settings of MT-UNet, which predicts classes and gaze from one U-Net."""

    system: Literal["mt-unet"] = "mt-unet"


class UNetSConfig(UNetSettings):
    """Settings of UNet_S, MT-UNet's U-Net for gaze alone."""

    predicts: ClassVar[tuple[Answer, ...]] = ("saliency",)

    system: Literal["unet-s"] = "unet-s"

    batch_norm: bool = False
    """Normalise in the double convolutions too, as MT-UNet does, not only on the way up and in the head."""


class ResSEUNetConfig(ResidualSettings):
    """Settings of Res_SE-UNet, GazeNet's U-Net without its DenseNet, for gaze alone."""

    predicts: ClassVar[tuple[Answer, ...]] = ("saliency",)

    system: Literal["res-se-unet"] = "res-se-unet"


class DenseNetConfig(DenseNetSettings):
    """Settings of DenseNet with a linear head; the two systems differ in how they are trained."""

    predicts: ClassVar[tuple[Answer, ...]] = ("classes",)

    system: Literal["dnet201", "dnet201-cl"] = "dnet201"


class InceptionConfig(NetworkConfig):
    """Settings of Inception-ResNet-v2."""

    predicts: ClassVar[tuple[Answer, ...]] = ("classes",)

    system: Literal["inception-resnet-v2"] = "inception-resnet-v2"

    repeats: tuple[
        Annotated[int, Field(ge=1, le=10)], Annotated[int, Field(ge=1, le=20)], Annotated[int, Field(ge=1, le=9)]
    ] = (10, 20, 9)
    """Blocks at strides 8, 16 and 32, before the one that ends them; their widths are timm's."""

    @property
    def fits_imagenet(self) -> bool:
        """Return whether this is the network whose weights timm publishes."""
        return has_defaults(self, "repeats")

    @model_validator(mode="after")
    def _is_large_enough(self) -> Self:
        if min(self.input_size) < _LEAST_OF_INCEPTION:
            raise ValueError(f"{self.input_size[0]}x{self.input_size[1]} is less than {_LEAST_OF_INCEPTION} each way")
        return self


class GazeGNNConfig(NetworkConfig):
    """Settings of GazeGNN, a pyramid Vision GNN that reads gaze; the defaults are ViG-Ti."""

    predicts: ClassVar[tuple[Answer, ...]] = ("classes",)
    needs_gaze: ClassVar[bool] = True

    system: Literal["gazegnn"] = "gazegnn"

    input_size: tuple[Pixels, Pixels] = (224, 224)
    """Height and width of the network's input; the nodes of the first stage are a quarter of it each way."""

    channels: tuple[Width, Width, Width, Width] = (48, 96, 240, 384)
    blocks: tuple[Layers, Layers, Layers, Layers] = (2, 2, 6, 2)
    """Channels and blocks of the stages, each at half the resolution of the one before."""

    neighbours: Annotated[int, Field(ge=1, le=100)] = 9
    """Neighbours of a node in the graph."""

    head_hidden: Width = 1024

    @model_validator(mode="after")
    def _graph_fits(self) -> Self:
        if wrong := [width for width in self.channels if width % 4]:
            raise ValueError(f"channels {wrong[0]} is not a multiple of 4")
        nodes = self.input_size[0] * self.input_size[1] // STRIDE**2
        if nodes < self.neighbours:
            raise ValueError(f"the last stage has {nodes} nodes, fewer than {self.neighbours} neighbours")
        return self


def _system_of(value: Any) -> str:
    """Return the system of settings; those written before there was more than one network name none."""
    named = value.get("system", "gazenet") if isinstance(value, dict) else getattr(value, "system", "")
    return named if isinstance(named, str) else ""


def _tags(config: type[NetworkConfig]) -> tuple[str, ...]:
    return get_args(config.model_fields["system"].annotation)


_CONFIGS: tuple[type[NetworkConfig], ...] = (
    GazeNetConfig, MTUNetConfig, GazeGNNConfig, InceptionConfig, UNetSConfig, ResSEUNetConfig, DenseNetConfig,
)  # fmt: skip
CONFIGS: dict[str, type[NetworkConfig]] = {system: config for config in _CONFIGS for system in _tags(config)}
"""Class of settings of each system."""

WITH_DENSENET: tuple[str, ...] = tuple(name for name, config in CONFIGS.items() if issubclass(config, DenseNetSettings))
"""Systems with a DenseNet, whose own head Grad-CAM can explain."""

HEAD_PHASE = "encoder"
"""Phase of training in which that head learns."""

CLASSIFYING_PHASES: dict[str, tuple[str, ...]] = {
    "gazenet": ("classifier", "joint"),
    "mt-unet": ("joint",),
    "gazegnn": ("diagnosis",),
    "inception-resnet-v2": ("diagnosis",),
    "dnet201": (HEAD_PHASE,),
    "dnet201-cl": (HEAD_PHASE,),
}
"""Phases of training that teach a system the classes it answers with; one that answers with none has none."""

AnyNetworkConfig = Annotated[
    Annotated[GazeNetConfig, Tag("gazenet")]
    | Annotated[MTUNetConfig, Tag("mt-unet")]
    | Annotated[GazeGNNConfig, Tag("gazegnn")]
    | Annotated[InceptionConfig, Tag("inception-resnet-v2")]
    | Annotated[UNetSConfig, Tag("unet-s")]
    | Annotated[ResSEUNetConfig, Tag("res-se-unet")]
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
_UNETS: dict[Preset, dict[str, Any]] = {
    "full": {},
    "small": {"widths": (24, 48, 96, 192, 256), "input_size": (320, 256)},
    "tiny": {"widths": (8, 16, 24, 32, 48), "input_size": (160, 128)},
}
_GATES: dict[Preset, dict[str, Any]] = {"full": {}, "small": {"se_reduction": 8}, "tiny": {"se_reduction": 4}}
_FUSIONS: dict[Preset, dict[str, Any]] = {"full": {}, "small": {}, "tiny": {"fusion_hidden": 32}}
_INCEPTIONS: dict[Preset, dict[str, Any]] = {
    "full": {},
    "small": {"repeats": (4, 8, 4), "input_size": (320, 256)},
    "tiny": {"repeats": (1, 1, 1), "input_size": (160, 128)},
}
_GRAPHS: dict[Preset, dict[str, Any]] = {
    "full": {},
    "small": {"channels": (24, 48, 96, 192), "head_hidden": 256},
    "tiny": {"channels": (16, 24, 32, 48), "blocks": (1, 1, 2, 1), "head_hidden": 64, "input_size": (128, 128)},
}


def _together(*tables: dict[Preset, dict[str, Any]]) -> dict[Preset, dict[str, Any]]:
    return {preset: {name: v for table in tables for name, v in table[preset].items()} for preset in get_args(Preset)}


_PRESETS: dict[System, dict[Preset, dict[str, Any]]] = {
    "gazenet": _together(_DENSENETS, _UNETS, _GATES, _FUSIONS),
    "mt-unet": _together(_UNETS, _FUSIONS),
    "gazegnn": _GRAPHS,
    "inception-resnet-v2": _INCEPTIONS,
    "unet-s": _UNETS,
    "res-se-unet": _together(_UNETS, _GATES),
    "dnet201": _DENSENETS,
    "dnet201-cl": _DENSENETS,
}


def predicts(system: System) -> tuple[Answer, ...]:
    """Return what a system predicts."""
    return CONFIGS[system].predicts


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
