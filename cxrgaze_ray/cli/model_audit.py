"""cxrgaze models verify and card, for auditors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cxrgaze_ray.cli.console import bar, print_table, say, show
from cxrgaze_ray.cli.evaluation_report import Pictures, examples
from cxrgaze_ray.cli.options import DEFAULT_REGISTRY, Json, Reference, RegistryUri
from cxrgaze_ray.errors import EXIT_USER, ConfigError

if TYPE_CHECKING:
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.reports.figures import Figure


def verify(
    reference: Reference,
    head: Annotated[
        str | None, typer.Option(help="Hash of a ledger entry, as from a model card: shows whether the tail was cut.")
    ] = None,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Prove that a model's ledger and bundles are as they were written, or name what was edited, removed or moved.

    All of a model is verified, for its versions are proven by one ledger; one that is named must be among them.

    Example: cxrgaze models verify cxrgaze --head 3b0f5c1d9e7a2b4c6d8e0f1a3b5c7d9e1f2a4b6c8d0e2f4a6b8c0d2e4f6a8b0c
    """
    from cxrgaze_ray.registry.audit import verify_registry
    from cxrgaze_ray.registry.ledger.rules import name_and_version
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.storage import open_store

    opened, (name, at) = Registry(open_store(registry)), name_and_version(reference)
    with bar("Verifying", quiet=as_json) as progress:
        findings = verify_registry(opened, name, head, progress.update)
    faults = [one for one in findings if not one.note]
    if at is not None and not faults:
        opened.resolve(reference)  # there is such a version, and it is among those that are sound
    now = None if faults else opened.head(name)
    if as_json:
        told = {"name": name, "sound": not faults, "head": now, "findings": [vars(one) for one in findings]}
        show(told, as_json=True)
    else:
        if findings:
            rows = [[one.file, "note" if one.note else "FAULT", one.what, one.mend] for one in findings]
            print_table(["where", "", "what is wrong", "what to do"], rows)
        say(_verdict(name, len(faults), now, head))
    if faults:
        raise typer.Exit(EXIT_USER)


def _verdict(name: str, faults: int, now: str | None, head: str | None) -> str:
    if faults:
        return f"{name} is not sound: {faults} fault{'' if faults == 1 else 's'}."
    if head:
        return f"{name} is sound, and holds the entry {head[:12]}. The ledger's head is {now}"
    return f"{name} is sound. Entries after its last publication can be cut unnoticed unless you keep its head: {now}"


def card(
    reference: Reference,
    out: Annotated[str, typer.Option(help="File to write: .html or .md.")] = "card.html",
    store: Annotated[
        str | None, typer.Option(help="Show pictures of this shard store's validation split; HTML only.")
    ] = None,
    pictures: Pictures = 1,
    registry: RegistryUri = DEFAULT_REGISTRY,
    as_json: Json = False,
) -> None:
    """Write a model's card from its bundle and ledger: its purpose, origin and quality, and who promoted it.

    Example: cxrgaze models card cxrgaze@champion --out card.html
    """
    from cxrgaze_ray.registry.versions import Registry
    from cxrgaze_ray.reports.model_card import card_format, model_card
    from cxrgaze_ray.storage import open_output, open_store

    form = card_format(out)
    if store is not None and form != "html":
        raise ConfigError("Pictures are shown in an HTML card only.", "Write it as .html, or leave out --store.")
    place, key = open_output(out)
    opened = Registry(open_store(registry))
    shown, told_of = _examples(opened, reference, store, pictures) if store else ([], "")
    card = model_card(opened, reference, form, examples=shown, examples_from=told_of)
    place.put(key, card.text.encode())
    told = {"card": out, "name": card.name, "version": card.version, "head": card.head}
    lines = [f"The card of {card.name}@{card.version} is in {out}.", f"The ledger's head is {card.head}"]
    show(told, as_json=as_json, lines=lines)


def _examples(registry: Registry, reference: str, store: str, pictures: int) -> tuple[list[Figure], str]:
    """Return pictures for a card, and how they were chosen: of the validation split, for a card is no look at tests."""
    from cxrgaze_ray.models.bundle import read_bundle
    from cxrgaze_ray.reports.evaluation_page import CHOSEN
    from cxrgaze_ray.shards import ShardStore
    from cxrgaze_ray.storage import open_store

    opened, pin = ShardStore.open(store), registry.named(reference)
    bundle = read_bundle(open_store(pin.uri))
    bundle.info.check_profile(opened.info.profile, opened.info.profile_sha256)
    return examples(bundle, opened, "validation", pictures), CHOSEN.format(split="validation")
