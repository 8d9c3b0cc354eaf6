"""cxrgaze models: what is in the registry, and moving its aliases."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, SEED_MAX, Json, PromotionReason, Reference, RegistryUri
from cxrgaze_ray.models.settings import System

if TYPE_CHECKING:
    from cxrgaze_ray.registry.pin import ModelPin
    from cxrgaze_ray.registry.versions import Registry

_LISTED = (
    "name", "version", "alias", "published", "system", "trained", "auc", "cc", "test_images", "gate", "versions",
)  # fmt: skip

Who = Annotated[
    str | None, typer.Option(envvar="CXRGAZE_WHO", help="Who does it, for the ledger; by default user@host.")
]


def init(
    system: Annotated[System, typer.Option(help="The network, by the paper's name.")] = "gazenet",
    preset: Annotated[Literal["full", "small", "tiny"], typer.Option(help="Size of the network.")] = "tiny",
    name: Annotated[str, typer.Option(help="Model name.")] = "cxrgaze",
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="Seed of the weights.")] = 0,
    promote_it: Annotated[bool, typer.Option("--promote/--no-promote", help="Make it the champion.")] = True,
    reason: PromotionReason = "",
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Publish an untrained bundle, marked as such everywhere, to try out throughput and plumbing.

    Example: cxrgaze models init --preset tiny --registry ./registry
    """
    from cxrgaze_ray.models.bundle import make_bundle
    from cxrgaze_ray.models.settings import architecture
    from cxrgaze_ray.models.zoo import build
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    config = architecture(system, preset)
    ledger = Registry(open_store(registry))
    if promote_it:
        ledger.check_successor(name, reason, trained=False)
    pin = ledger.publish(make_bundle(build(config, seed), name, trained=False), "untrained")
    if promote_it:
        ledger.promote(name, pin.version, reason=reason, note="untrained", say=say)
    say("This model is untrained: its answers mean nothing.")
    alias = f" and is {name}@champion" if promote_it else ""
    show(pin.model_dump(), as_json=as_json, lines=[f"{name}@{pin.version} is published{alias}, in {registry}."])


def list_(
    every: Annotated[
        bool, typer.Option("--all", help="Every version, not only the one that a name stands for.")
    ] = False,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """List models: when they were published, whether they are trained, how good, and what the gate said of them.

    A name stands for its champion or, where there is none, for its last version.

    Example: cxrgaze models list --registry s3://models/registry
    """
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    ledger = Registry(open_store(registry))
    rows = [row for name in ledger.models() for row in _versions(ledger, name, every=every)]
    if as_json:
        show({"models": rows}, as_json=True)
    elif rows:
        trained = {True: "yes", False: "no", None: ""}
        shown = [row | {"trained": trained[row["trained"]]} for row in rows]
        print_table([name.replace("_", " ") for name in _LISTED], [[row[name] for name in _LISTED] for row in shown])
        say("auc is the macro AUC and cc the maps' correlation, with 95% intervals, on a version's own test split.")
        if len({row["store_sha256"] for row in rows if row["test_images"] is not None}) > 1:
            compare = shlex.join(["cxrgaze", "models", "compare", "A", "B", "--store", "STORE"])
            say(f"Versions with other test images can't be compared here: {compare}")
    else:
        say(f"There is no model in {registry}.")
        say(f"Train one, or try the plumbing: {shlex.join(['cxrgaze', 'models', 'init', '--registry', registry])}")


def _versions(registry: Registry, name: str, *, every: bool) -> Iterator[dict[str, Any]]:
    """Yield what a list tells of a model's version, or of all of them; it has to name damaged ones too."""
    from cxrgaze_ray.errors import BundleError, RegistryError, StoreNotFound
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.reports.metric_rows import metric_rows
    from cxrgaze_ray.storage import open_store

    chain = registry.ledger(name).read()
    aliases = chain.aliases()
    stands = aliases.get("champion") or next(reversed(chain.versions()), "")
    for version in chain.versions() if every else [stands]:
        published, gate = chain.published(version), chain.gate(version)
        told: dict[str, Any] = {
            "name": name,
            "version": version,
            "alias": ", ".join(alias for alias, one in sorted(aliases.items()) if one == version),
            "published": published.at[:10] if published else "",
            "system": "not readable" if version else "nothing published yet",
            "trained": None,
            "auc": "",
            "cc": "",
            "test_images": None,
            "store_sha256": None,
            "gate": gate.outcome if gate else "",
            "versions": len(chain.versions()),
            "aliases": aliases_text(aliases),
        }
        try:
            info = read_info(open_store(registry.resolve(f"{name}@{version}").uri))
        except (BundleError, RegistryError, StoreNotFound):
            yield told
            continue
        rows = {row.name: f"{row.value} ({row.interval})".removesuffix(" ()") for row in metric_rows(info.metrics)}
        figures = {"auc": rows.get("AUC macro", ""), "cc": rows.get("saliency CC", "")}
        measured = {"test_images": info.metrics.get("images"), "store_sha256": info.lineage.store_sha256}
        yield told | {"system": info.network.system, "trained": info.trained} | figures | measured


def show_(reference: Reference, registry: RegistryUri = DEFAULT_REGISTRY, as_json: Json = False) -> None:
    """Show a version of a model, by default its champion, and the model's ledger.

    Example: cxrgaze models show cxrgaze
    """
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    ledger = Registry(open_store(registry))
    pin = ledger.named(reference)
    name, chain = pin.name, ledger.ledger(pin.name).read()
    aliases = chain.aliases()
    info = read_info(open_store(pin.uri))
    if as_json:
        told = {"name": name, "aliases": aliases, "head": chain.head, "bundle": info.model_dump()}
        show(told | {"ledger": [entry.model_dump() for entry in chain.entries]}, as_json=True)
        return
    state = "trained" if info.trained else "UNTRAINED"
    network = f"{info.network.system}, preset {info.network.preset}, predicts {' and '.join(info.predicts)}"
    say(f"{name}@{pin.version}: {state}, {network}, profile {info.profile}, {aliases_text(aliases)}")
    say(f"{info.intended_use} Weights sha256 {info.weights_sha256}")
    say(f"The ledger's head is {chain.head}")
    names = ["number", "at", "who", "action", "version", "alias", "outcome", "reason"]
    print_table(names, [[getattr(entry, name) for name in names] for entry in chain.entries])


def promote(
    reference: Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="Model, and which version of it.")],
    version: Annotated[str | None, typer.Argument(help="Such as v3, if it is not named with the model.")] = None,
    alias: Annotated[str, typer.Option(help="Which alias.")] = "champion",
    reason: PromotionReason = "",
    who: Who = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Point an alias at a version, after checking its bundle.

    Example: cxrgaze models promote cxrgaze@v3 --reason "better on site B"
    """
    from cxrgaze_ray.registry.ledger.rules import name_and_version
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    name, at = name_and_version(reference)
    if version is None:
        version = at
    elif at is not None:
        raise typer.BadParameter("Name the version once: cxrgaze@v3.", param_hint="VERSION")
    if version is None:
        raise typer.BadParameter("Name a version too: cxrgaze@v3.", param_hint="NAME[@VERSION]")
    ledger = Registry(open_store(registry))
    skipped: list[str] = []
    pin = ledger.promote(name, version, alias, reason, who=who, say=skipped.append)
    moved(pin, f"{name}@{alias} is {pin.version} in {registry}.", ledger, as_json, skipped)


def rollback(
    reference: Annotated[str, typer.Argument(metavar="NAME[@ALIAS]", help="Model, and which alias of it.")],
    alias: Annotated[str, typer.Option(help="Which alias, if it is not named with the model.")] = "champion",
    reason: Annotated[str, typer.Option(help="For the ledger.")] = "",
    who: Who = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Point an alias back at the version it stood for before.

    Example: cxrgaze models rollback cxrgaze --reason "worse on site B"
    """
    from cxrgaze_ray.registry.ledger.rules import name_and_version
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    name, at = name_and_version(reference)
    ledger, alias = Registry(open_store(registry)), at or alias
    pin = ledger.rollback(name, alias, reason, who=who)
    moved(pin, f"{name}@{alias} is {pin.version} again.", ledger, as_json)


def moved(pin: ModelPin, sentence: str, registry: Registry, as_json: bool, skipped: Sequence[str] = ()) -> None:
    """Show where an alias stands now, what was skipped for that, what is not known of it, and the ledger's new head."""
    chain = registry.ledger(pin.name).read()
    lines = [sentence, *skipped]
    if not pin.trained:
        lines.append(f"{pin.name}@{pin.version} is untrained: its answers mean nothing.")
    elif chain.gate(pin.version) is None and not skipped:
        lines.append(f"No gate has judged {pin.name}@{pin.version}.")
    told = pin.model_dump() | {"head": chain.head, "skipped": list(skipped)}
    show(told, as_json=as_json, lines=[*lines, f"The ledger's head is {chain.head}"])


def aliases_text(aliases: dict[str, str]) -> str:
    """Return aliases as champion=v0003."""
    return ", ".join(f"{alias}={version}" for alias, version in sorted(aliases.items())) or "no alias"
