"""The two stages between plan and rows, as Ray Data runs them: decode on CPU workers, score through Serve.

chunk numbers --DecodeChunk--> (plan rows, model images) --ScoreChunk--> result rows
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import RayServeException

from cxrgaze_ray import saliency, telemetry
from cxrgaze_ray.decoding import Decoder
from cxrgaze_ray.errors import RadiographError, ServingUnavailable
from cxrgaze_ray.manifest import fetch_listed
from cxrgaze_ray.predictor import Predictions
from cxrgaze_ray.runs import Run, RunSpec
from cxrgaze_ray.schemas import CLASSES, FACT_FIELDS, HEIGHT, RESULT, WIDTH, status_of
from cxrgaze_ray.storage import open_store

MODEL_TRIES = 5
"""How often a chunk is sent while replicas come and go, with doubling pauses from one second."""

_ROWS = "rows"
_IMAGES = "images"
_FACTS = [name for name, _ in FACT_FIELDS]


@dataclass(frozen=True)
class Pools:
    """How many actors each stage has, and the CPUs of a decoder."""

    decoders: int
    scorers: int = 1
    decoder_cpus: float = 1.0


def result_blocks(run: Run, wanted: dict[int, list[int]], application: str, pools: Pools) -> Iterator[pa.Table]:
    """Score the wanted positions of each shard; yield result rows (`schemas.RESULT`), a chunk at a time."""
    per_shard = run.spec.shard_rows // run.spec.chunk_rows
    chunks = [
        shard * per_shard + chunk
        for shard, positions in wanted.items()
        for chunk in sorted({position // run.spec.chunk_rows for position in positions})
    ]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = (
        ray.data.range(len(chunks), override_num_blocks=len(chunks))
        .map_batches(
            DecodeChunk,
            fn_constructor_args=(run.store.uri, np.array(chunks, np.int64), _narrow(run, wanted)),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=pools.decoder_cpus,
            compute=ray.data.ActorPoolStrategy(size=pools.decoders, max_tasks_in_flight_per_actor=2),
        )
        .map_batches(
            ScoreChunk,
            fn_constructor_args=(run.spec, application),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0.1,
            compute=ray.data.ActorPoolStrategy(
                size=pools.scorers, max_tasks_in_flight_per_actor=4, max_concurrent_calls_per_actor=2
            ),
        )
    )
    for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        assert isinstance(batch, pa.Table)
        yield batch.cast(RESULT)


def _narrow(run: Run, wanted: dict[int, list[int]]) -> dict[int, list[int]]:
    """Keep the positions of those shards only that are not wanted whole: usually none."""
    return {shard: rows for shard, rows in wanted.items() if len(rows) < run.shard_rows(shard)}


class DecodeChunk:
    """Fetch and decode the images of a chunk, one at a time; what can't be decoded becomes a row with a reason."""

    def __init__(self, run_uri: str, chunks: np.ndarray[Any, np.dtype[np.int64]], narrow: dict[int, list[int]]) -> None:
        run = Run.open(open_store(run_uri))
        self._spec = run.spec
        self._plan = run.plan()
        self._chunks = chunks
        self._narrow = narrow
        self._decoder = Decoder(run.spec.profile, frontal_only=run.spec.request.options.view == "frontal")

    def __call__(self, batch: pa.Table) -> pa.Table:
        out = [self._decode_chunk(int(self._chunks[index])) for index in batch["id"].to_pylist()]
        return pa.table({_ROWS: [rows for rows, _ in out], _IMAGES: [images for _, images in out]})

    def _decode_chunk(self, chunk: int) -> tuple[bytes, bytes]:
        start = chunk * self._spec.chunk_rows
        rows, images = [], []
        for planned in self._plan.slice(start, self._spec.chunk_rows).to_pylist():
            if planned["position"] not in self._narrow.get(planned["shard"], (planned["position"],)):
                continue
            row, image = self._decode_row(planned)
            rows.append(row)
            images += [image] if image is not None else []
        table = pa.Table.from_pylist(rows, schema=RESULT)
        return table_to_ipc(table), b"".join(image.tobytes() for image in images)

    def _decode_row(self, planned: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray[Any, Any] | None]:
        row = {name: planned[name] for name in ("shard", "position", "image_id", "subject_id", "study_id")}
        started = time.perf_counter()
        try:
            decoded = self._decoder.decode(fetch_listed(planned))
        except RadiographError as error:
            facts = {"view_position": planned["view_position"], "view_source": planned["view_source"]}
            return row | facts | {"reason_code": str(error.reason), "detail": error.message}, None
        telemetry.record(telemetry.DECODE_SECONDS, time.perf_counter() - started, job="score")
        facts = dict(decoded.facts)
        if facts["view_source"] in (None, "unknown") and planned["view_position"]:
            facts |= {"view_position": planned["view_position"], "view_source": planned["view_source"]}
        return row | {name: facts[name] for name in _FACTS} | {"affine": asdict(decoded.affine)}, decoded.pixels


class ScoreChunk:
    """Send a chunk's images to the model deployment as one call, and make result rows of the answer."""

    def __init__(self, spec: RunSpec, application: str) -> None:
        self._spec = spec
        self._handle = serve.get_deployment_handle("Model", application)

    def __call__(self, batch: pa.Table) -> pa.Table:
        tables = [
            self._score(table_from_ipc(rows.as_buffer()), images.as_buffer())
            for rows, images in zip(batch[_ROWS], batch[_IMAGES], strict=True)
        ]
        return pa.concat_tables(tables)

    def _score(self, table: pa.Table, images: pa.Buffer) -> pa.Table:
        images_bhw = np.frombuffer(images, np.uint16).reshape(-1, HEIGHT, WIDTH)
        answers = iter(self._answers(images_bhw)) if len(images_bhw) else iter(())
        common = {
            "bundle_version": self._spec.model.version,
            "weights_sha256": self._spec.model.weights_sha256,
            "profile": self._spec.profile,
            "engine": self._spec.engine,
            "scored_at": datetime.now(UTC),
        }
        rows = []
        for row in table.to_pylist():
            answer = next(answers) if row["reason_code"] is None else {}
            rows.append(row | common | {"status": str(status_of(row["reason_code"]))} | answer)
        return pa.Table.from_pylist(rows, schema=RESULT)

    def _answers(self, images_bhw: np.ndarray[Any, Any]) -> Iterator[dict[str, Any]]:
        result = self._call(images_bhw)
        for probabilities, logits, density in zip(
            result.probabilities_BK, result.logits_BK, result.saliency_BHW, strict=True
        ):
            png, peak = saliency.encode(density)
            yield {
                **{f"p_{name}": float(p) for name, p in zip(CLASSES, probabilities, strict=True)},
                "prediction": CLASSES[int(np.argmax(probabilities))],
                "logits": logits.tolist(),
                "saliency_png": png,
                "saliency_peak": peak,
            }

    def _call(self, images_bhw: np.ndarray[Any, Any]) -> Predictions:
        for attempt in range(MODEL_TRIES):
            try:
                result: Predictions = self._handle.predict.remote(
                    images_bhw, self._spec.model, self._spec.engine
                ).result()
            except (RayActorError, RayServeException):
                time.sleep(2**attempt)
            else:
                return result
        raise ServingUnavailable("The model deployment lost its replicas.", "Run the same command again.")


def table_to_ipc(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def table_from_ipc(buffer: pa.Buffer) -> pa.Table:
    """Read a table back from an Arrow IPC stream."""
    return pa.ipc.open_stream(buffer).read_all()
