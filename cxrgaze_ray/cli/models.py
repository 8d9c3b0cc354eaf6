"""cxrgaze models: what is in the registry, and moving its aliases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from cxrgaze_ray.cli.console import print_table, say, show
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, SEED_MAX, Json, PromotionReason, RegistryUri

if TYPE_CHECKING:
    from cxrgaze_ray.models.settings import System
    from cxrgaze_ray.registry.pin import ModelPin
    from cxrgaze_ray.registry.versions import Registry

Name = Annotated[str, typer.Argument(help="Model name.")]
Who = Annotated[
    str | None, typer.Option(envvar="CXRGAZE_WHO", help="Who does it, for the ledger; by default user@host.")
]


def init(
    system: Annotated[str, typer.Option(help="The network, by the paper's name, such as mt-unet.")] = "gazenet",
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

    config = architecture(cast("System", system), preset)
    ledger = Registry(open_store(registry))
    if promote_it:
        ledger.check_successor(name, reason, trained=False)
    pin = ledger.publish(make_bundle(build(config, seed), name, trained=False), "untrained")
    if promote_it:
        ledger.promote(name, pin.version, reason=reason, note="untrained", say=say)
    say("This model is untrained: its answers mean nothing.")
    alias = f" and is {name}@champion" if promote_it else ""
    show(pin.model_dump(), as_json=as_json, lines=[f"{name}@{pin.version} is published{alias}."])


def list_(registry: RegistryUri = DEFAULT_REGISTRY, as_json: Json = False) -> None:
    """List models, their versions and what their aliases stand for.

    Example: cxrgaze models list --registry s3://models/registry
    """
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    ledger = Registry(open_store(registry))
    rows = []
    for name in ledger.models():
        chain = ledger.ledger(name).read()
        rows.append([name, _system(ledger, name), len(chain.versions()), aliases_text(chain.aliases())])
    if as_json:
        names = ("name", "system", "versions", "aliases")
        show({"models": [dict(zip(names, row, strict=True)) for row in rows]}, as_json=True)
    elif rows:
        print_table(["model", "system", "versions", "aliases"], rows)
    else:
        say(f"There is no model in {registry}.")


def show_(name: Name, registry: RegistryUri = DEFAULT_REGISTRY, as_json: Json = False) -> None:
    """Show a model's ledger and its champion.

    Example: cxrgaze models show cxrgaze
    """
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    ledger = Registry(open_store(registry))
    chain = ledger.ledger(name).read()
    aliases = chain.aliases()
    pin = ledger.current(name)
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


def _system(registry: Registry, name: str) -> str:
    """Return the system of a model's champion or last version; a list has to name damaged models too."""
    from cxrgaze_ray.errors import BundleError, RegistryError
    from cxrgaze_ray.models.bundle import read_info
    from cxrgaze_ray.storage import open_store

    try:
        return read_info(open_store(registry.current(name).uri)).network.system
    except (BundleError, RegistryError):
        return "not readable"


def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Such as v3.")],
    alias: Annotated[str, typer.Option(help="Which alias.")] = "champion",
    reason: PromotionReason = "",
    who: Who = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Point an alias at a version, after checking its bundle.

    Example: cxrgaze models promote cxrgaze v3 --reason "better on site B"
    """
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    ledger = Registry(open_store(registry))
    skipped: list[str] = []
    pin = ledger.promote(name, version, alias, reason, who=who, say=skipped.append)
    moved(pin, f"{name}@{alias} is {pin.version}.", ledger, as_json, skipped)


def rollback(
    name: Name,
    alias: Annotated[str, typer.Option(help="Which alias.")] = "champion",
    reason: Annotated[str, typer.Option(help="For the ledger.")] = "",
    who: Who = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Point an alias back at the version it stood for before.

    Example: cxrgaze models rollback cxrgaze --reason "worse on site B"
    """
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    ledger = Registry(open_store(registry))
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
