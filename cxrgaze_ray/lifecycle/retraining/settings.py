"""The request for a retraining: one YAML file, read alike by the command, the job and the webhook."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import Field

from cxrgaze_ray.config import Name, Settings, Uri, Uris
from cxrgaze_ray.lifecycle.retraining.policy import Policy
from cxrgaze_ray.shards import IngestSettings
from cxrgaze_ray.storage import read_settings
from cxrgaze_ray.training.recipes import STAGE_ORDER, StageName
from cxrgaze_ray.training.running import CheckpointSettings, Workers, WorkersSetting
from cxrgaze_ray.training.settings import STAGE_NAMES, Overrides


class NewData(Settings):
    """Newly labelled radiographs, made into a shard store before anything else."""

    archive: Uri
    """URI of the radiographs."""

    follow_links: bool = False
    """Follow links that lead out of the archive."""

    gaze: Uris = ()
    """URIs of EGD-CXR's tables, which hold labels too, or REFLACX's."""

    out: Uri
    """URI of the store; a finished one is used as it is."""

    settings: IngestSettings = IngestSettings()
    """Settings of the ingest. Shares and salt of the split are the first store's, if none are given, so that no patient
    is in two splits."""


class RetrainSettings(Settings):
    """Contents of retrain.yaml."""

    registry: Uri = "./registry"
    """Store of the model registry; a retraining's files lie there too, in ``<name>/retraining/``."""

    name: Name = "cxrgaze"
    """Name of the model; a candidate starts from its champion, and is judged against it."""

    stores: Uris = ()
    """Finished shard stores, oldest first: if an image is in two of them, the later one's labels count."""

    ingest: tuple[NewData, ...] = Field((), min_length=0, max_length=1000)
    """Newly labelled data, placed after the stores."""

    reports: Uris = ()
    """URIs of the monitor's JSON reports."""

    policy: Uri | Policy = Policy()
    """URI of a policy's YAML, or the policy itself."""

    phases: tuple[StageName, ...] = Field(STAGE_NAMES, min_length=1, max_length=len(STAGE_ORDER))
    """Phases to train, from the champion's weights; all of its recipe unless some are named.
    ``[classifier]`` trains the fusion head only, in minutes."""

    training: Overrides = {}
    """Values that override the preset's training settings: seed, stages and so on."""

    workers: WorkersSetting = Workers()
    """Number of Ray Train workers, or text such as ``2:8``: as many of them as there is room for."""

    checkpoints: CheckpointSettings = CheckpointSettings()
    """How often the training is saved."""

    auto_promote: bool = False
    """Whether an accepted candidate is promoted at once; otherwise a person does it."""

    page: Uri | None = None
    """URI of an extra HTML page about the retraining; there is always one beside its records."""

    tracking: Uri | None = None
    """MLflow's tracking URI, where losses, the gate's figures and its verdict are mirrored."""

    def sha256(self) -> str:
        """Return the request's identity: an unfinished retraining of the same request is continued."""
        asked = set(RetrainSettings.model_fields) - {"page", "auto_promote", "checkpoints", "tracking"}
        return hashlib.sha256(self.model_dump_json(include=asked).encode()).hexdigest()


def read_retraining(uri: str, **overrides: Any) -> RetrainSettings:
    """Read retrain.yaml; overrides that are not None win over the file. ConfigError names what is wrong."""
    return read_settings(RetrainSettings, uri, **overrides)
