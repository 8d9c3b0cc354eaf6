"""Puts a card's facts together and writes them as HTML or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.bundle import WEIGHTS, BundleInfo, read_hashed_info
from cxrgaze_ray.models.calibration import Calibration
from cxrgaze_ray.models.parts import notes_on_parts
from cxrgaze_ray.models.predictions import told
from cxrgaze_ray.registry.ledger import Entry
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.figures import Figure
from cxrgaze_ray.reports.model_card.curves import loss_rows
from cxrgaze_ray.reports.model_card.gates import Judgement, read_judgement
from cxrgaze_ray.reports.pages import render
from cxrgaze_ray.reports.quality import Tile, first_figures, quality

Format = Literal["html", "md"]
Row = tuple[str, str]
_TOLD = ("preset", "stages", "backbone")
"""Settings of the training that the card says elsewhere."""


@dataclass(frozen=True)
class Card:
    """The card's text, of which version it is, and the ledger's head that it carries."""

    name: str
    version: str
    head: str
    text: str


def card_format(file: str) -> Format:
    """Return the format that a file's ending asks for; ConfigError if it is neither .html nor .md."""
    if file.lower().endswith(".html"):
        return "html"
    if file.lower().endswith(".md"):
        return "md"
    raise ConfigError("A model card is written as .html or .md.", "Give --out such an ending.")


def model_card(
    registry: Registry,
    reference: str,
    form: Format = "html",
    *,
    examples: Sequence[Figure] = (),
    examples_from: str = "",
) -> Card:
    """Generate the card of name, name@v3 or name@alias.

    Parameters
    ----------
    registry
        Holds the bundle and the ledger.
    reference
        A name alone means its champion or, where there is none, its last version.
    form
        HTML that needs no network, or Markdown.
    examples, examples_from
        Pictures for the HTML, and a sentence on how they were chosen. A bundle holds none, as they show patients.

    Raises
    ------
    RegistryError
        If there is no such model, or it is not as it was published.
    """
    pin = registry.named(reference)
    name = pin.name
    chain = registry.ledger(name).read()
    store = registry.version_store(name, pin.version)
    info, bundle_sha256 = read_hashed_info(store)
    size = store.info(WEIGHTS)
    history = [entry for entry in chain.entries if _concerns(entry, pin.version, info.weights_sha256)]
    gates = [read_judgement(registry.store.child(name), entry) for entry in history if entry.action == "gate"]
    shown = quality(info, info.metrics, "On the test split of the shard store.", examples, examples_from)
    context = {
        "name": name,
        "version": pin.version,
        "aliases": sorted(alias for alias, version in chain.aliases().items() if version == pin.version),
        "info": info,
        "answers": _answers(info),
        "limits": _limits(info, gates),
        "network": _network(info, size.size_bytes if size else None),
        "lineage": _lineage(info),
        "stages": _stages(info),
        "curves": loss_rows(info.curves),
        **shown,
        "tiles": _tiles(first_figures(shown["metrics"]), gates),
        "gates": gates,
        "history": history,
        "published": chain.published(pin.version),
        "head": chain.head,
        "bundle_sha256": bundle_sha256,
    }
    return Card(name, pin.version, chain.head, render(f"card.{form}", **context))


def _concerns(entry: Entry, version: str, weights_sha256: str) -> bool:
    """Say whether an entry tells of a version: looks may have come before it had a name."""
    return entry.version == version or (entry.version is None and entry.weights_sha256 == weights_sha256)


def _answers(info: BundleInfo) -> str:
    """Say what the model makes of what."""
    names = ", ".join(info.classes).replace("_", " ")
    words = {"classes": f"probabilities of {names}", "saliency": "a map of where a radiologist would look"}
    source = "one chest radiograph" + (" and the gaze of its reader" if info.network.needs_gaze else "")
    return f"From {source}: {', and '.join(words[answer] for answer in info.predicts)}."


def _limits(info: BundleInfo, gates: list[Judgement]) -> list[str]:
    """Say what nobody may conclude, from what is known and what is not."""
    limits = [] if info.trained else ["The weights are untrained: its answers mean nothing."]
    names = ", ".join(info.classes).replace("_", " ")
    if "classes" in info.predicts:
        limits.append(f"It answers one of {names} for every image, and has no answer for anything else.")
    limits.append(f"It reads images of the preprocessing profile {info.profile}; others are refused.")
    if info.network.needs_gaze:
        limits.append("It reads the reader's gaze beside the image: it can be evaluated, but not score or serve.")
    if "saliency" in info.predicts:
        limits.append("Its gaze map predicts where a reader would look; it does not explain the diagnosis.")
    if info.trained and "stages" in info.lineage.settings:
        before = info.lineage.parent_phases if info.lineage.parent else ()
        limits += notes_on_parts(info.network.system, before, info.lineage.settings["stages"])
    if info.metrics:
        limits.append("Its figures are of one test split: they say nothing of other sites, devices or patients.")
    else:
        limits.append("It carries no metrics: nothing is known of how good it is.")
    if info.lineage.caution:
        limits.append(info.lineage.caution)
    if info.lineage.calibration:
        limits.append(info.lineage.calibration.told())
    elif info.temperature == 1 and "classes" in info.predicts:
        limits.append("Its probabilities were not recalibrated (temperature 1).")
    if reach := info.metrics.get("reach"):
        limits.append(str(reach))
    worse = [one.phase for one in info.curves if one.before is not None and not min(one.validation) < one.before]
    if worse:
        limits.append(f"No epoch bettered the weights that it began with, of phase {', '.join(worse)}.")
    if not gates:
        limits.append("No gate compared it with the model it replaces.")
    elif gates[-1].outcome != "accepted":
        limits.append(f"The gate did not accept it: {gates[-1].outcome}.")
    return limits


def _network(info: BundleInfo, size_bytes: int | None) -> list[Row]:
    network = info.network
    own = network.model_dump(exclude={"system", "preset", "input_size"})
    rows = [
        ("system", network.system),
        ("preset", network.preset),
        ("predicts", told(info.predicts)),
        ("reads", "image and gaze" if network.needs_gaze else "image"),
        ("input", f"{network.input_size[0]} x {network.input_size[1]} pixels, height x width"),
        *((name.replace("_", " "), _plain(value)) for name, value in own.items()),
        ("profile", f"{info.profile}, settings {info.profile_sha256[:12]}"),
        ("golden outputs", f"{len(info.golden)} recorded" if info.golden else "none recorded"),
    ]
    if "classes" in info.predicts:
        classes = ", ".join(info.classes).replace("_", " ")
        rows += [
            ("classes", classes),
            ("temperature", f"{info.temperature:g}"),
            *_calibration(info.lineage.calibration),
        ]
    return rows if size_bytes is None else [*rows, ("weights", f"{size_bytes / 2**20:.1f} MiB, float32 safetensors")]


def _calibration(found: Calibration | None) -> list[Row]:
    """Say what the temperature changed on the images that it was fitted on."""
    if found is None or found.before is None or found.after is None or found.why:
        return []
    named = (("log loss", "nll"), ("Brier score", "brier"), ("calibration error", "ece"))
    changes = [
        f"{title} {getattr(found.before, name):.3f} to {getattr(found.after, name):.3f}" for title, name in named
    ]
    return [
        (f"recalibrated on {found.split}", f"{found.images} images of {found.patients} patients: {', '.join(changes)}")
    ]


def _lineage(info: BundleInfo) -> list[Row]:
    lineage = info.lineage.model_dump()
    settings, parent, backbone = (lineage.pop(name) for name in ("settings", "parent", "backbone"))
    del lineage["caution"], lineage["calibration"]  # the card says them elsewhere
    rows = [
        ("shard store", lineage.pop("store_sha256") or "none"),
        ("warm start from", parent or "no other model"),
        ("first weights", backbone or ("the parent's" if parent else "not recorded")),
        (f"{'imported' if info.lineage.imported_format else 'trained'} by", f"cxrgaze {lineage.pop('code_version')}"),
    ]
    told = {**lineage, **{name: value for name, value in settings.items() if name not in _TOLD}}
    return [*rows, *((name.replace("_", " "), _plain(value)) for name, value in told.items() if value is not None)]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(_plain, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _stages(info: BundleInfo) -> list[Row]:
    stages = info.lineage.settings.get("stages") or {}
    return [(name, _plain(values)) for name, values in stages.items()]


def _tiles(figures: list[Tile], gates: list[Judgement]) -> list[Tile]:
    """Add the gate's last word to the figures to see first."""
    kind = {"accepted": "scored", "rejected": "failed"}
    if not gates:
        return figures
    return [*figures, (kind.get(gates[-1].outcome, "skipped"), gates[-1].outcome, "by the gate")]
