"""What a retraining is asked for: one YAML file, read by the command, the job and the webhook alike."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import Field

from cxrgaze_ray.config import Name, Settings, Uri, Uris
from cxrgaze_ray.lifecycle.retraining.policy import Policy
from cxrgaze_ray.shards import IngestSettings
from cxrgaze_ray.storage import read_settings
from cxrgaze_ray.training.settings import STAGE_NAMES, Overrides, StageName


class NewData(Settings):
    """Newly labelled radiographs, made into a shard store before anything else."""

    archive: Uri
    """URI of the radiographs."""

    follow_links: bool = False
    """Follow links that lead out of the archive."""

    gaze: Uris = ()
    """URIs of EGD-CXR's tables, which hold labels too, or REFLACX's."""

    out: Uri
    """URI of the store; one that is finished is used as it is."""

    settings: IngestSettings = IngestSettings()
    """Split by the same salt and shares as the other stores, so that no patient is torn."""


class RetrainSettings(Settings):
    """Contents of retrain.yaml."""

    registry: Uri = "./registry"
    """Store of the model registry; what a retraining leaves lies there too, in ``<name>/retraining/``."""

    name: Name = "cxrgaze"
    """Model; its champion is what a candidate starts from, and has to beat."""

    stores: Uris = ()
    """Finished shard stores, oldest first: of an image in two of them, the later one's labels count."""

    ingest: tuple[NewData, ...] = Field((), min_length=0, max_length=1000)
    """Newly labelled data, after the stores."""

    reports: Uris = ()
    """URIs of the monitor's JSON reports."""

    policy: Uri | Policy = Policy()
    """URI of a policy's YAML, or the policy itself."""

    phases: tuple[StageName, ...] = Field(STAGE_NAMES, min_length=1, max_length=len(STAGE_NAMES))
    """Phases to train, from the champion's weights; ``[classifier]`` trains the fusion head only, in minutes."""

    training: Overrides = {}
    """Over the preset's training settings: seed, stages and so on."""

    workers: int = Field(1, ge=1, le=10_000)
    """Ray Train workers."""

    auto_promote: bool = False
    """Promote an accepted candidate; otherwise a person does."""

    page: Uri | None = None
    """URI of an HTML page about the retraining; there is always one beside its records."""

    def sha256(self) -> str:
        """Identify what is asked for: an unfinished retraining of the same goes on."""
        asked = set(RetrainSettings.model_fields) - {"page", "auto_promote"}
        return hashlib.sha256(self.model_dump_json(include=asked).encode()).hexdigest()


def read_retraining(uri: str, **overrides: Any) -> RetrainSettings:
    """Read retrain.yaml; values that are not None win over the file. ConfigError names what is wrong."""
    return read_settings(RetrainSettings, uri, **overrides)
