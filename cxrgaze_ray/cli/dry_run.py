"""What `cxrgaze train --dry-run` shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cxrgaze_ray.cli.console import human_bytes, human_seconds, print_table, say, show

if TYPE_CHECKING:
    from cxrgaze_ray.cluster.connection import ClusterSettings
    from cxrgaze_ray.training.foretell import Foretold, Room
    from cxrgaze_ray.training.order import TrainOrder


def dry_run_of(order: TrainOrder, tell: Callable[[str], None], cluster: ClusterSettings, *, as_json: bool) -> None:
    """Check an order, and show what it would take on this machine, or on machines like this one of a cluster."""
    from cxrgaze_ray.training.order import foretell_order

    told = foretell_order(order, tell, cluster)
    if as_json:
        show({"settings": order.training().model_dump(), **told.told()}, as_json=True)
        return
    print_table(
        ["phase", "images", "validated", "batch", "epochs at most", "step, an image", "an epoch", "once", "at most"],
        [
            [
                one.phase, one.images, one.validated, one.batch, one.epochs, _milliseconds(one.step_s),
                human_seconds(one.epoch_s / told.sharing), human_seconds(one.once_s / told.sharing),
                human_seconds(one.seconds / told.sharing),
            ]
            for one in told.phases
        ],
    )  # fmt: skip
    for sentence in [*told.notes, *told.warnings, *_sentences(told, order)]:
        say(sentence)


def _sentences(told: Foretold, order: TrainOrder) -> list[str]:
    shared = f", shared by {told.sharing} workers as if each had as much" if told.sharing > 1 else ""
    return [
        f"{human_seconds(told.seconds)} at most, by steps of each phase measured here on {told.device}{shared}; "
        "patience ends most phases earlier. Start and evaluation take a minute or more beside.",
        f"Memory: about {_room(told.memory)}.",
        f"Room in {order.registry}: {human_bytes(told.checkpoints)} for checkpoints and {human_bytes(told.features)} "
        f"for features while it trains{_free(told.registry)}.",
        f"Room in the folder for temporary files: {_room(told.temporary)}.",
        "All of it was checked, and nothing was trained or written.",
    ]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _room(room: Room) -> str:
    return f"{human_bytes(room.needed)}{_free(room)}"


def _free(room: Room) -> str:
    return "" if room.free is None else f", of {human_bytes(room.free)} that are free"
