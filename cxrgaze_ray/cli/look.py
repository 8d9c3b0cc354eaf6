"""cxrgaze archive look."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cxrgaze_ray.cli.console import bar, show
from cxrgaze_ray.cli.gaps import Gaps
from cxrgaze_ray.cli.options import (
    DEFAULT_REGISTRY,
    SEED_MAX,
    FollowLinks,
    IdentitiesOption,
    Json,
    Pseudonymise,
    RegistryUri,
    archive_uri,
    identities_of,
)


def look(
    uri: Annotated[
        str, typer.Argument(help="Archive: a folder, an s3:// prefix, a file, or a list of URIs.", callback=archive_uri)
    ],
    profile: Annotated[str | None, typer.Option(help="Preprocessing profile; by default cxrgaze-v1.")] = None,
    model: Annotated[str | None, typer.Option(help="Take this model's profile: name@champion, or a URI.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Show all profiles, one row per image.")] = False,
    sample: Annotated[int, typer.Option(min=1, max=400, help="Files to look at, spread over the archive.")] = 24,
    seed: Annotated[int, typer.Option(min=0, max=SEED_MAX, help="The same seed selects the same files.")] = 0,
    view: Annotated[Literal["frontal", "all"], typer.Option(help="Views to decode, as for scoring.")] = "frontal",
    decode: Annotated[Literal["full", "reduced"], typer.Option(help="reduced: coarser and faster.")] = "full",
    out: Annotated[str, typer.Option(help="PNG to write: a path or an s3:// object.")] = "look.png",
    registry: RegistryUri = DEFAULT_REGISTRY,
    identities: IdentitiesOption = "keyed",
    pseudonymise: Pseudonymise = None,
    follow_links: FollowLinks = False,
    as_json: Json = False,
) -> None:
    """Draw a contact sheet of what a model would see: inverted, cropped and unreadable images show at once.

    A red frame marks an image whose polarity tag the picture contradicts, a yellow one a picture that does not tell.
    Captions name nobody, but the pictures are of patients: keep the sheet as you keep the archive.

    Example: cxrgaze archive look s3://hospital/cxr --sample 48 --out look.png
    """
    from cxrgaze_ray.archive.manifest import list_archive
    from cxrgaze_ray.radiograph.reading import Reading
    from cxrgaze_ray.reports.contact_sheet import make_sheet
    from cxrgaze_ray.storage import open_output

    profiles = _profiles(profile, model, compare, registry)
    store, key = open_output(out)
    manifest = list_archive(uri, identities_of(identities, pseudonymise), follow_links=follow_links)
    Gaps().tell(manifest)
    reading = Reading(frontal_only=view == "frontal", reduced=decode == "reduced")
    with bar("Looking", quiet=as_json) as progress:
        sheet = make_sheet(manifest, profiles, sample=sample, seed=seed, reading=reading, on_progress=progress.update)
    store.put(key, sheet.png)
    counts = {name: value for name, value in vars(sheet).items() if name != "png"}
    show({"out": out, "profiles": profiles, **counts}, as_json=as_json, lines=_lines(out, sheet.sampled, counts))


def _profiles(profile: str | None, model: str | None, compare: bool, registry: str) -> list[str]:
    """Return the profiles that the options ask for; at most one of them may."""
    from cxrgaze_ray.errors import ConfigError
    from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE, profile_names, profile_sha256

    if sum((profile is not None, model is not None, compare)) > 1:
        raise ConfigError("--profile, --model and --compare exclude each other.", "Give one of them.")
    if compare:
        return list(profile_names())
    if model is not None:
        from cxrgaze_ray.models.bundle import read_info
        from cxrgaze_ray.registry.versions import pin_model
        from cxrgaze_ray.storage import open_store

        profile = read_info(open_store(pin_model(registry, model).uri)).profile
    profile = profile or DEFAULT_PROFILE
    profile_sha256(profile)
    return [profile]


def _lines(out: str, sampled: int, counts: dict[str, object]) -> list[str]:
    lines = [f"{out}: {counts['shown']} of {sampled} files shown, of {counts['files']} in the archive."]
    for name in ("reasons", "polarity", "oddities"):
        found = counts[name]
        if isinstance(found, dict) and found:
            lines.append(f"{name}: " + ", ".join(f"{count} {word}" for word, count in sorted(found.items())))
    return lines
