"""Turned, cropped and mirrored training images: the gaze stays where the reader looked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cxrgaze_ray.training.augment import augmented
from cxrgaze_ray.training.stages import Batch

HEIGHT, WIDTH = 96, 128


def disc(row: float, column: float) -> Tensor:
    """Return a soft bright disc (H, W) on black."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 4.0**2))


def batch(places: list[tuple[float, float]]) -> Batch:
    """Return images of one disc each, with gaze that lies on it."""
    discs = torch.stack([disc(*place) for place in places])
    return Batch(discs[:, None], torch.arange(len(places)) % 3, discs / discs.sum(dim=(1, 2), keepdim=True))


def centres(maps_BHW: Tensor) -> Tensor:
    """Return each map's centre of mass (B, 2), row and column."""
    share_BHW = maps_BHW / maps_BHW.sum(dim=(1, 2), keepdim=True)
    rows, columns = torch.arange(HEIGHT).float(), torch.arange(WIDTH).float()
    return torch.stack([share_BHW.sum(dim=2) @ rows, share_BHW.sum(dim=1) @ columns], dim=1)


def moved(seed: int, given: Batch) -> Batch:
    torch.manual_seed(seed)
    return augmented(given)


PLACES = [(48.0, 40.0), (40.0, 84.0), (60.0, 64.0)]


@pytest.mark.parametrize("seed", range(40))
def test_gaze_moves_with_its_image(seed: int) -> None:
    found = moved(seed, batch(PLACES))
    torch.testing.assert_close(centres(found.gaze_BHW), centres(found.image_BCHW[:, 0]), atol=0.05, rtol=0)


def test_images_are_moved_each_differently_and_some_are_mirrored() -> None:
    given = batch([(48.0, 30.0)] * 40)
    columns = centres(moved(0, given).gaze_BHW)[:, 1]
    assert len(torch.unique(columns)) == 40
    mirrored = columns > WIDTH / 2
    assert 8 < int(mirrored.sum()) < 32
    shift = torch.where(mirrored, WIDTH - 1 - columns, columns) - 30
    assert 0.5 < float(shift.abs().max()) < 12, "a small turn and crop"


def test_a_seed_gives_the_same_images() -> None:
    first, again, other = (moved(seed, batch(PLACES)) for seed in (5, 5, 6))
    assert torch.equal(first.image_BCHW, again.image_BCHW)
    assert torch.equal(first.gaze_BHW, again.gaze_BHW)
    assert not torch.equal(first.image_BCHW, other.image_BCHW)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_not_moved_stays(seed: int) -> None:
    torch.manual_seed(seed)
    given = batch(PLACES)
    noise = Batch(torch.rand(3, 1, HEIGHT, WIDTH), given.label_B, given.gaze_BHW, repeats=1)
    found = moved(seed, noise)
    assert found.image_BCHW.shape == noise.image_BCHW.shape
    assert found.gaze_BHW.shape == noise.gaze_BHW.shape
    assert {found.image_BCHW.dtype, found.gaze_BHW.dtype} == {torch.float32}
    assert (type(found.image_BCHW), type(found.gaze_BHW)) == (Tensor, Tensor)
    assert float(found.image_BCHW.min()) >= 0
    assert float(found.image_BCHW.max()) <= 1
    assert float(found.gaze_BHW.min()) >= 0
    assert torch.equal(found.label_B, noise.label_B)
    assert found.repeats == 1
    assert torch.equal(noise.gaze_BHW, given.gaze_BHW), "the batch given is left as it is"


def test_images_without_gaze_are_moved_too() -> None:
    given = batch(PLACES)
    alone = Batch(given.image_BCHW, given.label_B, torch.empty(3, 0))
    found = moved(1, alone)
    assert found.gaze_BHW.shape == (3, 0)
    assert torch.equal(found.image_BCHW, moved(1, given).image_BCHW)
