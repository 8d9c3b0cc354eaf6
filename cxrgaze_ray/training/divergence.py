"""Stop a phase at the first value that is not finite, on every rank at once, and say where that was and what to try."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrgaze_ray.errors import TrainingDiverged
from cxrgaze_ray.models.state import not_finite
from cxrgaze_ray.training.ranks import any_rank
from cxrgaze_ray.training.recipes import Stage


class DivergenceWatch:
    """Looks at every loss, gradient and set of weights of a phase.

    Parameters
    ----------
    stage
        The phase, for messages.
    lr
        Learning rate of the phase, for the advice.
    """

    def __init__(self, stage: Stage, lr: float) -> None:
        self._stage, self._lr = stage, lr

    def step(self, epoch: int, step: int, loss: Tensor, parameters: list[nn.Parameter] | None) -> None:
        """Check a training step between its backward pass and the optimiser's step.

        Parameters
        ----------
        epoch, step
            Number of the epoch and of the step, both from 1.
        parameters
            Parameters whose gradients to check; None where a gradient scaler skips steps whose gradients overflow.
        """
        gradients = [p.grad for p in parameters or () if p.grad is not None]
        # the norm is not finite if a gradient is not, or is so large that Adam's squares overflow
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros_like(loss)
        # checked together: ranks wait for each other here, and one that stopped alone would leave the rest hanging
        bad_loss, bad_gradients = any_rank(torch.stack([~loss.detach().isfinite(), ~norm.isfinite()]))
        if bad_loss or bad_gradients:
            self._stop("the training loss is" if bad_loss else "the gradients are", epoch, step)

    def scale(self, epoch: int, step: int, scale: float) -> None:
        """Check a gradient scaler's scale: below 1, gradients overflow by themselves, and no step is taken any more."""
        if scale < 1:
            self._stop("the gradients are", epoch, step)

    def validation(self, epoch: int, step: int, loss: Tensor) -> None:
        """Check the loss of a validation batch; every rank must call this."""
        if any(any_rank(~loss.detach().isfinite()[None])):
            self._stop("the validation loss is", epoch, step)

    def weights(self, epoch: int, network: nn.Module) -> None:
        """Check parameters and buffers, the same on every rank, so that only finite ones are kept or handed over."""
        if not_finite(network.state_dict()):
            self._stop("the weights are", epoch)

    def _stop(self, what: str, epoch: int, step: int | None = None) -> None:
        when = f"epoch {epoch}" if epoch else "before the first epoch"
        where = f"phase {self._stage.name}, {when}" + (f", step {step}" if step else "")
        untouched = epoch == 0 or ((epoch, step) == (1, 1) and not what.startswith("the validation"))
        raise TrainingDiverged(
            f"The training was stopped in {where}: {what} not finite.",
            self._before_learning() if untouched else self._lower_rate(),
        )

    def _lower_rate(self) -> str:
        return (
            f"Lower stages.{self._stage.name}.lr, which is {self._lr:g}, in the training's settings, at first tenfold: "
            "this makes it another training, which starts afresh."
        )

    def _before_learning(self) -> str:
        """Return advice for a divergence in which the learning rate had no part yet."""
        advice = "The phase had not learned a step yet: start from other weights, or lower the rates of earlier phases."
        maps = " If the weights are sound, a gaze map is damaged: ingest the archive again."
        return advice + (maps if self._stage.needs_gaze else "")
