"""The checkpoints of one training on its store: written whole, the last few kept, the furthest of them resumed from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from cxrgaze_ray.errors import RunConflict, StoreNotFound, StoreUnavailable
from cxrgaze_ray.storage import Store
from cxrgaze_ray.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from cxrgaze_ray.training.features import FOLDER as FEATURES

_FOLDER = "checkpoints"


class KeptCheckpoints:
    """The checkpoints in a training's folder.

    Each is one object, which a store shows whole or not at all, so that no kill leaves a torn one behind. Its name
    orders it by progress. A worker that outlives its killed command for a moment does no harm: what it writes is a
    state of the same training, and what is furthest stays.

    Parameters
    ----------
    work
        Folder of the training.
    run_name
        Name of its Ray Train run, in which earlier versions kept their checkpoints.
    keep
        Number to keep.
    """

    def __init__(self, work: Store, run_name: str, keep: int = 1) -> None:
        self._work, self._run_name, self._keep = work, run_name, keep

    def names(self) -> list[str]:
        """Return the keys of all checkpoints, the furthest first."""
        keys = [info.key for info in self._work.list(f"{_FOLDER}/")]
        return sorted((key for key in keys if key.endswith(".safetensors")), reverse=True)

    def advanced(self) -> str:
        """Return what changes whenever the training has got further: a checkpoint, or some more cached features."""
        return f"{next(iter(self.names()), '')} {sum(1 for _ in self._work.list(FEATURES))}"

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove what is more than the number to keep."""
        stage, epoch, part, steps = checkpoint.standing.progress()
        key = f"{_FOLDER}/{stage:02d}-{epoch:06d}-{part}-{steps:08d}.safetensors"
        with _temporary() as path:
            try:
                write_checkpoint(path, checkpoint)
            except SafetensorError as error:  # as it reports a full disk; torch's own errors are others
                raise _no_room() from error
            with path.open("rb") as file:
                self._work.put_file(key, file)
        self._remove_all_but(self._keep)

    def finish(self, checkpoint: Checkpoint) -> None:
        """Write the end of the training, which is all that is needed from then on."""
        self.write(checkpoint)
        self._remove_all_but(1)

    def reached(self, stages: int) -> bool:
        """Return whether there is a checkpoint from after so many stages."""
        return any(key.startswith(f"{_FOLDER}/{stages:02d}-") for key in self.names())

    def end(self, stages: int) -> Checkpoint | None:
        """Return the end of a training of so many stages, if it was reached."""
        found = self.furthest() if self.reached(stages) else None
        return found[1] if found and found[1].standing.stage == stages else None

    def furthest(self, say: Callable[[str], None] = lambda _: None) -> tuple[str, Checkpoint] | None:
        """Return the furthest checkpoint that is whole, and its key; None if there is none.

        Damaged ones are removed: nothing can go on from them, and they would be taken for the furthest ever after.

        Raises
        ------
        RunConflict
            If it is whole, but of a version that this one can't read: nothing is removed.
        """
        for key in self.names():
            try:
                return key, self.read(key)
            except SafetensorError:
                say(f"Checkpoint {key} is damaged and was removed; the one before it is taken.")
                self._work.delete(key)
        earlier = self._earlier()
        return (earlier, self.read(earlier)) if earlier else None

    def read(self, key: str) -> Checkpoint:
        """Return a checkpoint.

        Raises
        ------
        StoreUnavailable
            If it was removed meanwhile, by a worker that outlives its command.
        RunConflict
            If it is whole, but of a version that this one can't read.
        """
        with _temporary() as path:
            if key.endswith(".safetensors"):
                self._fetch(key, path)
            else:
                path.mkdir()
                for info in self._work.list(f"{key}/"):
                    self._fetch(info.key, path / info.key.rpartition("/")[2])
            try:
                return read_checkpoint(path)
            except (KeyError, TypeError, ValueError) as error:
                raise RunConflict(
                    f"Checkpoint {key} of this training was written by another version of cxrgaze, and can't be read.",
                    "Go on with the version that wrote it, or remove it to go on from the one before.",
                ) from error

    def _fetch(self, key: str, path: Path) -> None:
        try:
            with path.open("wb") as file:
                file.writelines(self._work.stream(key))
        except OSError as error:
            raise _no_room() from error
        except StoreNotFound as error:
            raise StoreUnavailable(
                "A checkpoint was removed while it was read.", "Run the same command again."
            ) from error

    def _remove_all_but(self, keep: int) -> None:
        for key in self.names()[keep:]:
            self._work.delete(key)

    def _earlier(self) -> str | None:
        """Return the folder of a checkpoint of a version that had Ray Train keep them."""
        run = f"ray/{self._run_name}"
        if not self._work.exists(index := f"{run}/checkpoint_manager_snapshot.json"):
            return None
        latest = json.loads(self._work.get(index)).get("latest_checkpoint_result")
        return f"{run}/{latest['checkpoint_dir_name']}" if latest else None


@contextmanager
def _temporary() -> Iterator[Path]:
    """Yield a path for a checkpoint on this machine; what lies there goes with the block."""
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise _no_room() from error
    with folder as name:
        yield Path(name) / "checkpoint"


def _no_room() -> StoreUnavailable:
    return StoreUnavailable(
        "A checkpoint could not be written to the folder for temporary files.",
        "Make room there, or name another folder: TMPDIR.",
    )
