"""The settings of one phase of a training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from cxrgaze_ray.config import Settings

_Beta = Annotated[float, Field(ge=0, lt=1)]


class Augmentation(Settings):
    """How far a training image may be changed, each time at random; its gaze map moves with it.

    The defaults are small: a chest that lies a little otherwise, on a film that is a little lighter or darker.
    """

    degrees: float = Field(5.0, ge=0, le=45)
    """Largest turn either way, in degrees."""

    shift: float = Field(0.03, ge=0, le=0.25)
    """Largest shift each way, as a share of height and width."""

    scale: float = Field(0.05, ge=0, le=0.5)
    """Largest growth or shrinkage, as a share."""

    flip: float = Field(0.0, ge=0, le=1)
    """Probability of a mirror image. 0, because the heart lies on the left: a mirrored chest is situs inversus, its
    side marker reads backwards, and readers look where the heart is."""

    brightness: float = Field(0.05, ge=0, le=0.5)
    """Largest value added to the picture or taken away, of its range of 1."""

    contrast: float = Field(0.1, ge=0, le=0.9)
    """Largest share by which the picture's distance from its own mean grows or shrinks."""

    gamma: float = Field(0.1, ge=0, le=1)
    """Largest natural logarithm, either way, of the exponent of the picture's values."""

    noise: float = Field(0.01, ge=0, le=0.2)
    """Standard deviation of Gaussian noise, of the picture's range of 1."""


class StageSettings(Settings):
    """Settings of one phase."""

    epochs: int = Field(50, ge=1, le=100_000)
    """Largest number of epochs."""

    batch: int = Field(16, ge=1, le=65_536)
    """Images per step, over all workers."""

    lr: float = Field(1e-4, gt=0, le=10)
    """Learning rate; constant, unless `schedule`, `warmup` or `plateau` says otherwise."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Course of the learning rate: cosine lets it fall to 0 over all `epochs`, step by step. See `plateau` for the
    third."""

    warmup: float = Field(0.0, ge=0, le=1000)
    """Epochs, or a part of one, over which the learning rate rises from a hundredth; a cosine begins after them."""

    plateau: int | None = Field(None, ge=1, le=100_000)
    """Epochs without a better validation loss after which the learning rate falls to a tenth, as in the released code
    (40 there); None keeps it."""

    optimiser: Literal["adam", "adamw"] = "adam"
    weight_decay: float = Field(0.0, ge=0, le=1)
    """Optimiser, and its decay of weights per step, as a share of the learning rate in AdamW."""

    betas: tuple[_Beta, _Beta] = (0.9, 0.999)
    """How much of the running means of gradients and of their squares each step keeps."""

    clip: float | None = Field(None, gt=0, le=1e6)
    """Largest norm of all gradients together, to which longer ones are shortened; None leaves them."""

    augment: bool | Augmentation = False
    """Random changes of training images, differently in every epoch, by how far they go; true turns, crops and mirrors
    as GazeGNN's authors do."""

    patience: int = Field(10, ge=1, le=100_000)
    """Epochs without a better validation loss before the phase stops."""

    @model_validator(mode="after")
    def _one_course(self) -> Self:
        if self.schedule == "cosine" and self.plateau is not None:
            raise ValueError("schedule cosine and plateau both set the learning rate: leave out one of the two")
        if self.warmup > self.epochs:
            raise ValueError(f"warmup lasts {self.warmup:g} epochs, and there are {self.epochs}")
        return self
