"""Results of single files: probabilities, saliency, pictures and tables of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from cxrgaze_ray.archive.manifest import fetch_listed
from cxrgaze_ray.archive.manifest.lists import look_up
from cxrgaze_ray.archive.manifest.places import INVALID, place_of_path
from cxrgaze_ray.errors import CxrgazeError, RadiographError, UserError
from cxrgaze_ray.export.picture import BOX, draw_cam, draw_result
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.predictions import check_predicted, told
from cxrgaze_ray.models.settings import Answer
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.schemas import CLASSES, FACT_FIELDS, RESULT, Affine, Status, status_of

if TYPE_CHECKING:
    import pandas

File = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes]
"""A radiograph: a path, an ``s3://`` or ``file://`` URI, a file's bytes, or a file that is open for reading bytes."""

_COLUMNS = ["status", "reason_code", "detail", "prediction", *[f"p_{name}" for name in CLASSES]]
_MODEL = ["bundle_version", "weights_sha256", "profile", "engine"]
_FACTS = [name for name, _ in FACT_FIELDS]
TABLE = pa.schema([pa.field("file", pa.string()), *[RESULT.field(name) for name in (*_COLUMNS, *_FACTS, *_MODEL)]])


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """A model's answer for one file, or why there is none. In a notebook it shows as its `overlay`.

    Attributes
    ----------
    pin
        Name, version and hash of the weights.
    predicts
        What the model predicts.
    profile, engine
        How the image was prepared, and what the network ran on.
    facts
        What is known about the file, keyed by the names in `schemas.FACT_FIELDS`.
    probabilities
        Probability of each class, summing to 1; None if the file was not scored, or the model predicts no classes.
    affine
        Where the source's pixels lie in the model image.
    density_HW
        float32 (640, 512), the predicted gaze on the model image, summing to 1; None if the file was not scored, or the
        model predicts no saliency.
    cam_HW, cam_target
        If it was asked for, Grad-CAM of DenseNet's own head, float32 (640, 512) with a peak of 1 on the model image;
        and the class that it explains, the head's own arg-max. It is not where a reader would look.
    reason, detail
        Why the file was not scored: a code of `schemas.Reason`, and a sentence.
    """

    _source: Source
    pin: ModelPin
    predicts: tuple[Answer, ...]
    profile: str
    engine: str
    facts: Mapping[str, Any]
    probabilities: Mapping[str, float] | None = None
    affine: Affine | None = None
    density_HW: NDArray[np.float32] | None = field(default=None, repr=False)
    cam_HW: NDArray[np.float32] | None = field(default=None, repr=False)
    cam_target: str | None = None
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
        """The most probable class; None without `probabilities`."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None

    @property
    def saliency(self) -> NDArray[np.float32]:
        """The predicted gaze on the stored source's pixels: float32 (rows, columns), summing to 1.

        Raises
        ------
        RadiographError
            If the file was not scored; it carries the reason.
        UserError
            If the model predicts no saliency.
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
        UserError
            If the model predicts no saliency.
        EnvironmentFault
            If its store can't be read.
        """
        density_HW, affine = self._answer()
        png, _ = saliency.encode(density_HW)
        row = self.row() | {"affine": vars(affine), "saliency_png": png}
        return Image.fromarray(draw_result(self._picture(), row, self.pin))

    def cam_overlay(self) -> Image.Image:
        """Draw the radiograph with Grad-CAM over it, labelled as what it is; the file is read again.

        Raises
        ------
        RadiographError
            If the file was not scored, or has changed since; it carries the reason.
        UserError
            If Grad-CAM was not asked for.
        EnvironmentFault
            If its store can't be read.
        """
        self._check_scored()
        if self.cam_HW is None or self.cam_target is None or self.affine is None:
            raise UserError("Grad-CAM was not asked for.", "Ask for it: predict(files, cam=True).")
        return Image.fromarray(draw_cam(self._picture(), self.cam_HW, self.affine, self.cam_target, self.pin))

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
            "bundle_version": self.pin.version,
            "weights_sha256": self.pin.weights_sha256,
            "profile": self.profile,
            "engine": self.engine,
        }

    def __repr__(self) -> str:
        return f"<{self.file or 'bytes'}: {self._in_brief()}>"

    def png(self) -> bytes:
        """Return the `overlay` as the bytes of a PNG; the same pixels give the same bytes."""
        return saliency.png_bytes(np.asarray(self.overlay()))

    def cam_png(self) -> bytes:
        """Return the `cam_overlay` as the bytes of a PNG; the same pixels give the same bytes."""
        return saliency.png_bytes(np.asarray(self.cam_overlay()))

    def _repr_png_(self) -> bytes | None:
        try:
            return self.png()
        except CxrgazeError:
            return None  # not scored, or its file is no longer there: the repr says what is known

    def _in_brief(self) -> str:
        if self.reason is not None:
            return f"{self.status}, {self.reason}"
        if self.probabilities is None:
            return f"{self.status}, {told(self.predicts)}"
        return f"{self.prediction} {self.probabilities[str(self.prediction)]:.1%}"

    def _picture(self) -> NDArray[np.uint8]:
        with Decoder() as decoder:
            return decoder.picture(self._source.read(), *BOX)

    def _check_scored(self) -> None:
        if self.reason is not None:
            raise RadiographError(self.reason, self.detail or "The file was not scored.")

    def _answer(self) -> tuple[NDArray[np.float32], Affine]:
        self._check_scored()
        model = f"{self.pin.name} {self.pin.version}"
        check_predicted("saliency", self.predicts, model, "A map of gaze was asked for", "Use its probabilities.")
        assert self.density_HW is not None
        assert self.affine is not None
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
        return pa.Table.from_pylist([result.row() for result in self], schema=TABLE)

    def to_pandas(self) -> pandas.DataFrame:
        """Return `to_arrow` as a data frame."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def _repr_html_(self) -> str:
        return str(self.to_pandas()[["file", *_COLUMNS]].to_html())


@dataclass(frozen=True)
class Source:
    """A file as it was given and as it was found: bytes, or a location with its size and etag."""

    name: str | None
    data: bytes | None = field(default=None, repr=False)
    listed: Mapping[str, Any] = field(default_factory=dict)

    def read(self) -> bytes:
        """Return the file's bytes; RadiographError if they are gone or have changed."""
        return self.data if self.data is not None else fetch_listed(dict(self.listed))


def find_sources(files: Sequence[File]) -> list[Source]:
    """Look files up once, so that each is later read as it was found.

    Raises
    ------
    TypeError
        If one is no `File`.
    EnvironmentFault
        If a store can't be asked.
    """
    given = [_given(file) for file in files]
    uris = pa.array([_place(name) for name in given if isinstance(name, str)], pa.string())
    found = zip(uris.to_pylist(), *(column.to_pylist() for column in look_up(uris)), strict=True)
    listed = (dict(zip(("uri", "size_bytes", "etag"), values, strict=True)) for values in found)
    return [Source(file, listed=next(listed)) if isinstance(file, str) else Source(None, file) for file in given]


def _given(file: File) -> str | bytes:
    """Return a path or URI as text, or a file's bytes."""
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    if isinstance(file, bytes | bytearray | memoryview):
        return bytes(file)
    if hasattr(file, "read") and isinstance(data := file.read(), bytes):
        return data
    raise TypeError(f"A radiograph is a path, a URI, bytes or an open binary file, not {type(file).__name__}.")


def _place(name: str) -> str:
    scheme, separator, rest = name.partition("://")
    if not separator or "/" in scheme:
        return place_of_path(os.path.abspath(Path(name).expanduser()))  # noqa: PTH100 Path.absolute() keeps ".."
    if scheme == "file":
        return place_of_path(unquote(rest))
    return name if scheme == "s3" else f"{INVALID}{name}"
