"""What a retraining is asked for: one YAML file, read by the command, the job and the webhook alike."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import PositiveInt

from cxrgaze_ray.config import Settings
from cxrgaze_ray.retraining.policy import Policy
from cxrgaze_ray.shards import IngestSettings
from cxrgaze_ray.storage import open_parent
from cxrgaze_ray.training.settings import StageName


class NewData(Settings):
    """Newly labelled radiographs, made into a shard store before anything else."""

    archive: str
    """URI of the radiographs."""

    gaze: tuple[str, ...] = ()
    """URIs of EGD-CXR's tables, which hold labels too, or REFLACX's."""

    out: str
    """URI of the store; one that is finished is used as it is."""

    settings: IngestSettings = IngestSettings()
    """Split by the same salt and shares as the other stores, so that no patient is torn."""


class RetrainSettings(Settings):
    """Contents of retrain.yaml."""

    registry: str = "./registry"
    """Store of the model registry; what a retraining leaves lies there too, in ``<name>/retraining/``."""

    name: str = "cxrgaze"
    """Model; its champion is what a candidate starts from, and has to beat."""

    stores: tuple[str, ...] = ()
    """Finished shard stores, oldest first: of an image in two of them, the later one's labels count."""

    ingest: tuple[NewData, ...] = ()
    """Newly labelled data, after the stores."""

    reports: tuple[str, ...] = ()
    """URIs of the monitor's JSON reports."""

    policy: str | Policy = Policy()
    """URI of a policy's YAML, or the policy itself."""

    phases: tuple[StageName, ...] = ("contrastive", "encoder", "saliency", "classifier")
    """Phases to train, from the champion's weights; ``[classifier]`` trains the fusion head only, in minutes."""

    training: dict[str, Any] = {}
    """Over the preset's training settings: seed, stages and so on."""

    workers: PositiveInt = 1
    """Ray Train workers."""

    auto_promote: bool = False
    """Promote an accepted candidate; otherwise a person does."""

    page: str | None = None
    """URI of an HTML page about the retraining; there is always one beside its records."""

    def sha256(self) -> str:
        """Identify what is asked for: an unfinished retraining of the same goes on."""
        asked = set(RetrainSettings.model_fields) - {"page", "auto_promote"}
        return hashlib.sha256(self.model_dump_json(include=asked).encode()).hexdigest()


def read_retraining(uri: str, **overrides: Any) -> RetrainSettings:
    """Read retrain.yaml; values that are not None win over the file. ConfigError names what is wrong."""
    store, key = open_parent(uri)
    return RetrainSettings.from_yaml(store.read_text(key), **overrides)
