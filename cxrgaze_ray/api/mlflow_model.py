"""A bundle as an MLflow model, which MLflow loads by this module: files in, the rows of a run out; no pickles."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cxrgaze_ray import __version__
from cxrgaze_ray.api.model import Model, load_model
from cxrgaze_ray.api.result import TABLE, Results
from cxrgaze_ray.config import check_extra
from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.gaze import saliency
from cxrgaze_ray.models.bundle import read_bundle, write_bundle
from cxrgaze_ray.phantoms import draw
from cxrgaze_ray.phantoms.files import jpeg_bytes
from cxrgaze_ray.registry.mlflow_tracking import import_quietly
from cxrgaze_ray.schemas import RESEARCH_ONLY, RESULT
from cxrgaze_ray.storage import LocalStore, Store

if TYPE_CHECKING:
    import mlflow
    import pandas

INPUT = "radiograph"
"""The input's column: a file's bytes, DICOM, JPEG or PNG."""

_PHANTOM_SIZE = (320, 256)
_MAPS = ("saliency_png", "saliency_peak")
_ROWS = pa.schema([*[one for one in TABLE if one.name != "file"], *[RESULT.field(name) for name in _MAPS]])


def save_mlflow(bundle: Store, out: Path, pin: str) -> None:
    """Write a bundle as a folder that MLflow loads with its pyfunc flavour, and serves.

    The bundle travels inside, hash and golden answers with it. ``predict`` takes a data frame with a column
    ``radiograph`` of bytes and the parameter ``view``, and returns a row for every file as a run has it.

    Parameters
    ----------
    bundle
        The bundle, which is checked first.
    out
        Folder to make.
    pin
        Name and version, for the model's metadata.

    Raises
    ------
    BundleError
        As `read_bundle`, and if the model reads gaze beside the image.
    ConfigError
        If something is at `out`, or the extra ``mlflow`` is not installed.
    """
    check_extra("mlflow")
    if out.exists():
        raise ConfigError(f"Something is at {out} already.", "Name a folder that does not exist.")
    checked = read_bundle(bundle)
    checked.info.check_needs_no_gaze()
    import pandas

    pyfunc = import_quietly().pyfunc

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, of its own code
        inside = Path(folder) / "bundle"
        write_bundle(LocalStore(str(inside)), checked)
        pyfunc.save_model(
            str(out),
            loader_module=__name__,
            data_path=str(inside),
            signature=_signature(),
            input_example=(pandas.DataFrame({INPUT: [_phantom()]}), {"view": "frontal"}),
            pip_requirements=[f"cxrgaze=={__version__}"],
            metadata={"model": pin, "weights_sha256": checked.info.weights_sha256, "intended_use": RESEARCH_ONLY},
        )


def _phantom() -> bytes:
    return jpeg_bytes(draw(np.random.default_rng(0), 0, *_PHANTOM_SIZE).image)


def _signature() -> mlflow.models.ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    kinds = {
        pa.string(): DataType.string, pa.binary(): DataType.binary, pa.bool_(): DataType.boolean,
        pa.int32(): DataType.integer, pa.float32(): DataType.float,
    }  # fmt: skip
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, INPUT)]),
        outputs=Schema([ColSpec(kinds[one.type], one.name, required=one.name == "status") for one in _ROWS]),
        params=ParamSchema([ParamSpec("view", DataType.string, "frontal")]),
    )


class CxrgazeModel:
    """What MLflow's ``pyfunc.load_model`` wraps."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def predict(self, radiographs: pandas.DataFrame, params: dict[str, Any] | None = None) -> pandas.DataFrame:
        """Return a row for every file of the column ``radiograph``, in their order, as `Results.to_arrow` has it.

        `saliency_png` and `saliency_peak` are the map as a run stores it. ``params["view"]`` is `Model.predict`'s.
        """
        view = (params or {}).get("view", "frontal")
        results = self._model.predict([bytes(one) for one in radiographs[INPUT]], view=view)
        rows = [row | _stored_map(results, place) for place, row in enumerate(results.to_arrow().to_pylist())]
        frame: pandas.DataFrame = pa.Table.from_pylist(rows, schema=_ROWS).to_pandas()
        return frame


def _stored_map(results: Results, place: int) -> dict[str, Any]:
    density_HW = results[place].density_HW
    return {} if density_HW is None else dict(zip(_MAPS, saliency.encode(density_HW), strict=True))


def _load_pyfunc(path: str) -> CxrgazeModel:
    """Load a bundle's folder: MLflow calls it by this name."""
    return CxrgazeModel(load_model(path))
