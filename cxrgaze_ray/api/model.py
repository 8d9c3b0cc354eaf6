"""A model in this process: single files to results, without Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cxrgaze_ray.api.result import File, Result, Results, Source, find_sources
from cxrgaze_ray.config import DeviceName, EngineKind, Settings
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.models.bundle import read_bundle
from cxrgaze_ray.models.predictions import Predictions
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import default_registry, pin_to_score
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.storage import open_store

if TYPE_CHECKING:
    from cxrgaze_ray.models.predictor import Predictor

CHUNK = 16
"""Images that are decoded before the network sees them, and so the most that wait in memory."""


def load_model(
    model: str | os.PathLike[str] = "cxrgaze@champion",
    *,
    registry: str | os.PathLike[str] | None = None,
    engine: EngineKind = "auto",
    device: DeviceName = "auto",
) -> Model:
    """Load a published model, or a bundle, into this process.

    Parameters
    ----------
    model
        ``name@alias``, ``name@v3``, or the path or URI of a bundle.
    registry
        Folder or ``s3://`` prefix of the registry that a name is looked up in; by default $CXRGAZE_REGISTRY,
        else ``./registry``.
    engine
        ``float32`` is the reference; ``exact`` gives its answers to 1e-5, faster; ``fast`` uses the precision that the
        hardware computes natively, and moves no probability by more than 0.005; ``auto`` is fast.
    device
        ``auto`` takes a GPU that this process may use, else the CPU.

    Raises
    ------
    RegistryError, BundleError
        If there is no such model, its weights are not those that were published, or it reads gaze beside the image.
    ConfigError
        If engine or device is none of these, or the device isn't there.
    EnvironmentFault
        If the store can't be reached.
    """
    from cxrgaze_ray.models.predictor import predictor_for

    chosen = _Options.build(engine=engine, device=device)
    pin, _ = pin_to_score(default_registry(registry), os.fspath(model))
    bundle = read_bundle(open_store(pin.uri))
    return Model(pin, predictor_for(bundle, chosen.engine, chosen.device))


class _Options(Settings):
    """What may be chosen, so that anything else is refused and not taken for a default."""

    engine: EngineKind = "auto"
    device: DeviceName = "auto"
    view: Literal["frontal", "all"] = "frontal"


class Model:
    """A model that scores files in this process; see `load_model`.

    Attributes
    ----------
    pin
        Name, version and hash of its weights.
    """

    def __init__(self, pin: ModelPin, predictor: Predictor) -> None:
        self.pin = pin
        self._predictor = predictor

    @property
    def profile(self) -> str:
        """Preprocessing profile that travels with the weights."""
        return self._predictor.info.profile

    @property
    def predicts(self) -> tuple[Answer, ...]:
        """What the model predicts: ``classes``, ``saliency``, or both."""
        return self._predictor.info.predicts

    @property
    def engine(self) -> str:
        """Name of the engine, as it appears on rows: ``reference-float32-cpu`` and so on."""
        return self._predictor.engine.name

    def __repr__(self) -> str:
        untrained = "" if self.pin.trained else ", untrained: its answers mean nothing"
        return f"<{self.pin.name} {self.pin.version} on {self.engine}{untrained}>"

    def predict(
        self,
        files: File | Iterable[File],
        *,
        view: Literal["frontal", "all"] = "frontal",
        cam: bool = False,
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Results:
        """Score files: one result for each, in their order, whether scored, skipped or failed with a reason.

        Files are decoded in a separate process, which a broken file may crash without harm. An image's answer does not
        depend on the images sent with it, and is the same as in an archive's run. Each result holds its map, 1.3 MB:
        score archives with `score`.

        Parameters
        ----------
        files
            Paths, URIs, bytes or open files; a single one may stand alone.
        view
            ``frontal`` skips lateral views; ``all`` scores them too.
        cam
            Add Grad-CAM of DenseNet's own head: `Result.cam_overlay`.
        on_progress
            Called with the number of files done, and of all files.

        Raises
        ------
        ConfigError, TypeError
            If `view` or a file is of another kind.
        EnvironmentFault
            If a store can't be read: an outage is never a result.
        BundleError
            If the model answers with values that are not finite, or has no DenseNet for `cam`.
        """
        one = isinstance(files, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(files, "read")
        wanted: list[File] = [files] if one else list(files)  # type: ignore[list-item, arg-type]
        results: list[Result] = []
        reading = Reading(frontal_only=_Options.build(view=view).view == "frontal")
        if cam:
            self._predictor.info.check_cam()
        with Decoder(self.profile, reading=reading) as decoder:
            for start in range(0, len(wanted), CHUNK):
                results += self._predict_chunk(find_sources(wanted[start : start + CHUNK]), decoder, cam=cam)
                on_progress(len(results), len(wanted))
        return Results(results)

    def _predict_chunk(self, sources: Sequence[Source], decoder: Decoder, *, cam: bool) -> Iterator[Result]:
        decoded = [_decode(source, decoder) for source in sources]
        images = [one.pixels for one in decoded if isinstance(one, Decoded)]
        answers = _answers(self._predictor.predict(np.stack(images), cam=cam), len(images)) if images else iter(())
        for source, one in zip(sources, decoded, strict=True):
            common = (source, self.pin, self.predicts, self.profile, self.engine)
            if isinstance(one, RadiographError):
                yield Result(*common, one.facts, reason=str(one.reason), detail=one.message)
            else:
                yield Result(*common, one.facts, affine=one.affine, **next(answers))


def _answers(predictions: Predictions, images: int) -> Iterator[dict[str, Any]]:
    """Yield the attributes of each image's `Result` that the model gives; what it does not is left out."""
    for index in range(images):
        told: dict[str, Any] = {}
        if predictions.probabilities_BK is not None:
            told["probabilities"] = dict(zip(CLASSES, map(float, predictions.probabilities_BK[index]), strict=True))
        if predictions.saliency_BHW is not None:
            told["density_HW"] = predictions.saliency_BHW[index]
        if predictions.cam_BHW is not None and predictions.cam_target_B is not None:
            told |= {"cam_HW": predictions.cam_BHW[index], "cam_target": CLASSES[predictions.cam_target_B[index]]}
        yield told


def _decode(source: Source, decoder: Decoder) -> Decoded | RadiographError:
    try:
        return decoder.decode(source.read())
    except RadiographError as error:
        return error
