"""What phases of training leave of a network's parts: some never learned, some learned from what has changed since."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_PARTS: dict[str, tuple[str, ...]] = {
    "gazenet": ("densenet", "head", "saliency_path", "classifier"),
    "mt-unet": ("saliency_path", "classifier"),
    "unet-s": ("saliency_path",),
    "res-se-unet": ("saliency_path",),
    "dnet201": ("densenet", "head"),
    "dnet201-cl": ("densenet", "head"),
}
"""Parts of each system of which a phase may train one without another."""

_TRAINED: dict[str, tuple[str, ...]] = {
    "contrastive": ("densenet",),
    "encoder": ("densenet", "head"),
    "saliency": ("saliency_path",),
    "classifier": ("classifier",),
    "joint": ("saliency_path", "classifier"),
}
"""Parts that learn in each phase."""

_READ = {"head": ("densenet",), "saliency_path": ("densenet",), "classifier": ("densenet", "saliency_path")}
"""Parts whose output each part learns from."""

_NAMES = {
    "densenet": "DenseNet",
    "head": "DenseNet's own head",
    "saliency_path": "the gaze path",
    "classifier": "the classifier",
}


def notes_on_parts(system: str, before: Sequence[str] | None, own: Iterable[str]) -> list[str]:
    """Return sentences on the parts that a training's phases leave fresh, or behind what they learned from.

    Parameters
    ----------
    system
        Network's system.
    before
        Phases that its first weights went through; None if they are not recorded: they are taken to be all.
    own
        Phases of the training, in order.
    """
    last: dict[str, tuple[int, str]] = {}
    earlier = tuple(_TRAINED) if before is None else before
    for number, phase in enumerate((*earlier, *own)):
        last |= dict.fromkeys(_TRAINED.get(phase, ()), (number, phase))
    parts, notes = _PARTS.get(system, ()), []
    for part in parts:
        readers = [reader for reader in parts if part in _READ.get(reader, ()) and reader in last]
        if part not in last:
            read = f", and {_listed(readers)} learned from those" if readers else ""
            notes.append(f"{_capital(_NAMES[part])} learns in no phase: it keeps its first weights{read}.")
        elif behind := [reader for reader in readers if last[reader][0] < last[part][0]]:
            what = "that part does" if len(behind) == 1 else "those parts do"
            changed = f"Phase {last[part][1]} changes {_NAMES[part]} after {_listed(behind)} learned from it"
            notes.append(f"{changed}, and {what} not learn again.")
    return notes


def _listed(parts: list[str]) -> str:
    *others, final = [_NAMES[part] for part in parts]
    return f"{', '.join(others)} and {final}" if others else final


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
