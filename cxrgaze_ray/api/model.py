"""A model in this process: single files to probabilities and saliency maps, without Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.archive.manifest import fetch_listed
from cxrgaze_ray.archive.manifest.lists import look_up
from cxrgaze_ray.archive.manifest.places import place_of_path
from cxrgaze_ray.config import DeviceName, EngineKind
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.export.picture import BOX, draw_result
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.bundle import read_bundle
from cxrgaze_ray.radiograph.decoding import Decoded, Decoder
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import pin_model
from cxrgaze_ray.schemas import CLASSES, FACT_FIELDS, RESULT, Affine, Status, status_of
from cxrgaze_ray.storage import open_store

if TYPE_CHECKING:
    import pandas

    from cxrgaze_ray.models.predictor import Predictor

File = str | os.PathLike[str] | bytes
"""A radiograph: a path, an ``s3://`` URI, or a file's bytes."""

CHUNK = 16
"""Images that are decoded before the network sees them, and so the most that wait in memory."""

_COLUMNS = ["status", "reason_code", "detail", "prediction", *[f"p_{name}" for name in CLASSES]]
_MODEL = ["bundle_version", "weights_sha256", "profile", "engine"]
_FACTS = [name for name, _ in FACT_FIELDS]
_TABLE = pa.schema([pa.field("file", pa.string()), *[RESULT.field(name) for name in (*_COLUMNS, *_FACTS, *_MODEL)]])


def load_model(
    model: str = "cxrgaze@champion",
    *,
    registry: str = "./registry",
    engine: EngineKind = "auto",
    device: DeviceName = "auto",
) -> Model:
    """Load a published model, or a bundle, into this process.

    Parameters
    ----------
    model
        ``name@alias``, ``name@v3``, or the path or URI of a bundle.
    registry
        Folder or ``s3://`` prefix of the registry that a name is looked up in.
    engine
        ``float32`` is the reference; ``fast`` uses the precision that the hardware computes natively; ``auto`` is
        fast where the hardware has such a precision.
    device
        ``auto`` takes a GPU that this process may use, else the CPU.

    Raises
    ------
    RegistryError, BundleError
        If there is no such model, or its weights are not those that were published.
    ConfigError
        If the device isn't there.
    EnvironmentFault
        If the store can't be reached.
    """
    from cxrgaze_ray.models.predictor import Predictor, plan_engine

    pin = pin_model(registry, model)
    return Model(pin, Predictor.from_bundle(read_bundle(open_store(pin.uri)), plan_engine(engine, device)))


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
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Results:
        """Score files: one result for each, in their order, whether scored, skipped or failed with a reason.

        Files are decoded in a separate process, which a broken file may crash without harm. An image's answer does not
        depend on the images sent with it, and is the same as in an archive's run.

        Parameters
        ----------
        files
            Paths, URIs or bytes; a single one may stand alone.
        view
            ``frontal`` skips lateral views; ``all`` scores them too.
        on_progress
            Called with the number of files done, and of all files.

        Raises
        ------
        EnvironmentFault
            If a store can't be read: an outage is never a result.
        BundleError
            If the model answers with values that are not finite.
        """
        wanted = [files] if isinstance(files, str | bytes | os.PathLike) else list(files)
        results: list[Result] = []
        with Decoder(self.profile, reading=Reading(frontal_only=view == "frontal")) as decoder:
            for start in range(0, len(wanted), CHUNK):
                results += self._predict_chunk(_listed(wanted[start : start + CHUNK]), decoder)
                on_progress(len(results), len(wanted))
        return Results(results)

    def _predict_chunk(self, sources: Sequence[_Source], decoder: Decoder) -> Iterator[Result]:
        decoded = [_decode(source, decoder) for source in sources]
        images = [one.pixels for one in decoded if isinstance(one, Decoded)]
        answers: Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]] = iter(())
        if images:
            answered = self._predictor.predict(np.stack(images))
            answers = zip(answered.probabilities_BK, answered.saliency_BHW, strict=True)
        for source, one in zip(sources, decoded, strict=True):
            common = (source, self.pin, self.profile, self.engine)
            if isinstance(one, RadiographError):
                yield Result(*common, one.facts, reason=str(one.reason), detail=one.message)
            else:
                probabilities_K, density_HW = next(answers)
                chances = dict(zip(CLASSES, map(float, probabilities_K), strict=True))
                yield Result(*common, one.facts, probabilities=chances, affine=one.affine, density_HW=density_HW)


@dataclass(frozen=True, repr=False)
class Result:
    """A model's answer for one file, or why there is none. In a notebook it shows as its `overlay`.

    Attributes
    ----------
    model
        Name, version and hash of the weights.
    profile, engine
        How the image was prepared, and what the network ran on.
    facts
        What is known about the file, keyed by the names in `schemas.FACT_FIELDS`.
    probabilities
        Probability of each class, summing to 1; None if the file was not scored.
    affine
        Where the source's pixels lie in the model image.
    density_HW
        float32 (640, 512), the predicted gaze on the model image, summing to 1.
    reason, detail
        Why the file was not scored: a code of `schemas.Reason`, and a sentence.
    """

    _source: _Source
    model: ModelPin
    profile: str
    engine: str
    facts: Mapping[str, Any]
    probabilities: Mapping[str, float] | None = None
    affine: Affine | None = None
    density_HW: NDArray[np.float32] | None = field(default=None, repr=False)
    reason: str | None = None
    detail: str | None = None

    @property
    def file(self) -> str | None:
        """The path or URI as it was given; None for bytes."""
        return self._source.name

    @property
    def status(self) -> Status:
        """Whether the file was scored, skipped or failed."""
        return status_of(self.reason)

    @property
    def prediction(self) -> str | None:
        """The most probable class; None if the file was not scored."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None

    @property
    def saliency(self) -> NDArray[np.float32]:
        """The predicted gaze on the stored source's pixels: float32 (rows, columns), summing to 1.

        Raises
        ------
        RadiographError
            If the file was not scored; it carries the reason.
        """
        density_HW, affine = self._answer()
        return saliency.to_source(density_HW, affine)

    def overlay(self) -> Image.Image:
        """Draw the radiograph with the predicted gaze over it and the probabilities below, as `runs export` does.

        The file is read again.

        Raises
        ------
        RadiographError
            If the file was not scored, or has changed since; it carries the reason.
        EnvironmentFault
            If its store can't be read.
        """
        density_HW, affine = self._answer()
        with Decoder() as decoder:
            picture_HW = decoder.picture(self._source.read(), *BOX)
        png, _ = saliency.encode(density_HW)
        row = self.row() | {"affine": vars(affine), "saliency_png": png}
        return Image.fromarray(draw_result(picture_HW, row, self.model))

    def row(self) -> dict[str, Any]:
        """Return what a row of `Results.to_arrow` holds."""
        chances = self.probabilities or {}
        return {
            **{name: self.facts.get(name) for name in _FACTS},
            **{f"p_{name}": chances.get(name) for name in CLASSES},
            "file": self.file,
            "status": str(self.status),
            "reason_code": self.reason,
            "detail": self.detail,
            "prediction": self.prediction,
            "bundle_version": self.model.version,
            "weights_sha256": self.model.weights_sha256,
            "profile": self.profile,
            "engine": self.engine,
        }

    def __repr__(self) -> str:
        if self.probabilities is None:
            return f"<{self.file or 'bytes'}: {self.status}, {self.reason}>"
        return f"<{self.file or 'bytes'}: {self.prediction} {self.probabilities[str(self.prediction)]:.1%}>"

    def png(self) -> bytes:
        """Return the `overlay` as the bytes of a PNG; the same pixels give the same bytes."""
        return saliency.png_bytes(np.asarray(self.overlay()))

    def _repr_png_(self) -> bytes | None:
        return None if self.density_HW is None else self.png()

    def _answer(self) -> tuple[NDArray[np.float32], Affine]:
        if self.density_HW is None or self.affine is None:
            raise RadiographError(self.reason or "", self.detail or "The file was not scored.")
        return self.density_HW, self.affine


class Results(Sequence[Result]):
    """Results in the order of their files."""

    def __init__(self, results: Sequence[Result]) -> None:
        self._results = tuple(results)

    @overload
    def __getitem__(self, index: int) -> Result: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> Result | Results:
        return Results(self._results[index]) if isinstance(index, slice) else self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"Results({list(self._results)})"

    def to_arrow(self) -> pa.Table:
        """Return one row per file: its name, what a run's summary holds (except ids), and what scored it."""
        return pa.Table.from_pylist([result.row() for result in self], schema=_TABLE)

    def to_pandas(self) -> pandas.DataFrame:
        """Return `to_arrow` as a data frame."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def _repr_html_(self) -> str:
        return str(self.to_pandas()[["file", *_COLUMNS]].to_html())


@dataclass(frozen=True)
class _Source:
    """A file as it was given and as it was found: bytes, or a location with its size and etag."""

    name: str | None
    data: bytes | None = field(default=None, repr=False)
    listed: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> bytes:
        """Return the file's bytes; RadiographError if they are gone or have changed."""
        return self.data if self.data is not None else fetch_listed(dict(self.listed))


def _listed(files: Sequence[File]) -> list[_Source]:
    """Look up files once, so that each is later read as it was found."""
    names = [None if isinstance(file, bytes) else os.fspath(file) for file in files]
    uris = pa.array([_place(name) for name in names if name is not None], pa.string())
    found = zip(uris.to_pylist(), *(column.to_pylist() for column in look_up(uris)), strict=True)
    sources = []
    for file, name in zip(files, names, strict=True):
        if isinstance(file, bytes):
            sources.append(_Source(None, file))
        else:
            uri, size, etag = next(found)
            sources.append(_Source(name, listed={"uri": uri, "size_bytes": size, "etag": etag}))
    return sources


def _place(name: str) -> str:
    return name if name.startswith("s3://") else place_of_path(os.path.abspath(name))  # noqa: PTH100 takes .. away too


def _decode(source: _Source, decoder: Decoder) -> Decoded | RadiographError:
    try:
        return decoder.decode(source.read())
    except RadiographError as error:
        return error
