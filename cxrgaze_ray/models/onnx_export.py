"""A bundle as an ONNX file: the network, and what the predictor does before and after it, for other runtimes."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cxrgaze_ray.config import check_extra
from cxrgaze_ray.models.bundle import Bundle
from cxrgaze_ray.models.predictor import to_model_grid
from cxrgaze_ray.schemas import HEIGHT, RESEARCH_ONLY, WIDTH

INPUT = "image"
OUTPUTS = {"classes": "probabilities", "saliency": "saliency"}
"""Names of the outputs, by what a model predicts."""

_OPSET = 18


class _Whole(nn.Module):
    """From model images to probabilities and densities, as `Predictor` computes them in float32."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__()
        self.network = bundle.network().eval()
        self._temperature = bundle.info.temperature
        self._predicts = bundle.info.predicts

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        size = self.network.config.input_size
        if size != (HEIGHT, WIDTH):
            image = functional.interpolate(image, size, mode="area")
        output = self.network(image)
        answers = []
        if "classes" in self._predicts:
            answers.append(torch.softmax(output.logits_BK / self._temperature, dim=1))
        if "saliency" in self._predicts:
            answers.append(to_model_grid(output.log_saliency_B1HW.exp()))
        return tuple(answers)


def export_onnx(bundle: Bundle, path: Path) -> None:
    """Write a bundle's network as one ONNX file, for one image at a time.

    Its input ``image`` is float32 (1, 1, 640, 512) in [0,1], prepared by the bundle's profile: an exported network does
    not decode files, and a picture that was prepared in another way gets a wrong answer. Outputs are what the model
    predicts: ``probabilities``, float32 (1, 3) in the order of `schemas.CLASSES`, calibrated; and ``saliency``,
    float32 (1, 640, 512), summing to 1. The file's metadata holds profile, classes and the hash of the weights.

    Raises
    ------
    BundleError
        If the network reads the reader's gaze beside the image.
    ConfigError
        If the extra ``onnx`` is not installed.
    """
    bundle.info.check_needs_no_gaze()
    check_extra("onnx")
    import onnx

    whole = _Whole(bundle)
    names = [OUTPUTS[one] for one in ("classes", "saliency") if one in bundle.info.predicts]
    with torch.no_grad(), _without_notes():
        program = torch.onnx.export(
            whole, (torch.zeros(1, 1, HEIGHT, WIDTH),), None,
            input_names=[INPUT], output_names=names, opset_version=_OPSET, dynamo=True, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    about = {
        "profile": bundle.info.profile,
        "profile_sha256": bundle.info.profile_sha256,
        "weights_sha256": bundle.info.weights_sha256,
        "classes": json.dumps(bundle.info.classes),
        "trained": json.dumps(bundle.info.trained),
        "intended_use": RESEARCH_ONLY,
    }
    onnx.helper.set_model_props(model, about)
    onnx.save(model, path)


@contextmanager
def _without_notes() -> Iterator[None]:
    """Leave out what torch's exporter logs and warns of about itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
