"""The pin of a model, which runs, services and reports keep while aliases move."""

from __future__ import annotations

from cxrgaze_ray.config import Record


class ModelPin(Record):
    """The exact weights of one version, or of a bundle outside any registry; an alias is resolved to one once."""

    # run.json of every run begun so far holds one: a new field would need a default
    uri: str
    name: str
    version: str
    weights_sha256: str
    trained: bool
    temperature: float = 1.0
    """What logits are divided by; two versions may have the same weights and not the same temperature."""

    @property
    def answers(self) -> str:
        """Name of what the model answers: the hash of its weights, and its temperature if that is not 1."""
        return self.weights_sha256 if self.temperature == 1 else f"{self.weights_sha256}/{self.temperature!r}"
