"""Turned, cropped and mirrored training images: the gaze stays where the reader looked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cxrgaze_ray.training.augment import augmented, changed, draws_of
from cxrgaze_ray.training.phase_settings import Augmentation
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
    """Return a batch whose rows were moved one by one, each by its own draws."""
    seen = given.gaze_BHW.ndim == 3
    rows = [
        augmented(image, given.gaze_BHW[place] if seen else None, draws_of(seed, 0, f"image-{place}"))
        for place, image in enumerate(given.image_BCHW)
    ]
    gazes = [gaze for _, gaze in rows if gaze is not None]
    return replace(
        given,
        image_BCHW=torch.stack([image for image, _ in rows]),
        gaze_BHW=torch.stack(gazes) if seen else given.gaze_BHW,
    )


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
    noise = Batch(torch.rand(3, 1, HEIGHT, WIDTH), given.label_B, given.gaze_BHW.clone())
    found = moved(seed, noise)
    assert found.image_BCHW.shape == noise.image_BCHW.shape
    assert found.gaze_BHW.shape == noise.gaze_BHW.shape
    assert {found.image_BCHW.dtype, found.gaze_BHW.dtype} == {torch.float32}
    assert (type(found.image_BCHW), type(found.gaze_BHW)) == (Tensor, Tensor)
    assert float(found.image_BCHW.min()) >= 0
    assert float(found.image_BCHW.max()) <= 1
    assert float(found.gaze_BHW.min()) >= 0
    assert torch.equal(noise.gaze_BHW, given.gaze_BHW), "the batch given is left as it is"


def test_an_image_s_moves_are_its_own_whatever_it_is_dealt_with() -> None:
    many, alone = moved(3, batch(PLACES)), moved(3, batch(PLACES[:1]))
    assert torch.equal(many.image_BCHW[0], alone.image_BCHW[0])
    image = disc(*PLACES[0])[None]
    epochs = [augmented(image, None, draws_of(3, epoch, "image-0"))[0] for epoch in (0, 1)]
    assert not torch.equal(*epochs)


def test_gaze_at_the_very_edge_is_not_cut_off() -> None:
    """A map without mass has no loss: the training would end as if it had diverged."""
    image = torch.zeros(1, HEIGHT, WIDTH)
    edge = torch.zeros(HEIGHT, WIDTH)
    edge[0, 0] = 1.0
    found = [augmented(image, edge, draws_of(seed, 0, "image")) for seed in range(40)]
    assert all(gaze is not None and gaze.sum() > 0 for _, gaze in found)
    assert augmented(image, torch.zeros(HEIGHT, WIDTH), draws_of(0, 0, "image"))[0].shape == image.shape


def test_images_without_gaze_are_moved_too() -> None:
    given = batch(PLACES)
    alone = Batch(given.image_BCHW, given.label_B, torch.empty(3, 0))
    found = moved(1, alone)
    assert found.gaze_BHW.shape == (3, 0)
    assert torch.equal(found.image_BCHW, moved(1, given).image_BCHW)


AMOUNTS = Augmentation(degrees=15, shift=0.1, scale=0.2, flip=0.5)


def gently(given: Batch, amounts: Augmentation = AMOUNTS, epoch: int = 0) -> Batch:
    seen = given.gaze_BHW.ndim == 3
    pairs = [
        changed(image, given.gaze_BHW[place] if seen else None, amounts, draws_of(7, epoch, f"image-{place}"))
        for place, image in enumerate(given.image_BCHW)
    ]
    maps = [gaze for _, gaze in pairs if gaze is not None]
    images = torch.stack([image for image, _ in pairs])
    return replace(given, image_BCHW=images, gaze_BHW=torch.stack(maps) if maps else given.gaze_BHW)


@pytest.mark.parametrize("epoch", range(20))
def test_a_landmark_stands_at_the_same_place_in_image_and_map_after_a_change(epoch: int) -> None:
    given = batch(PLACES)
    found = gently(given, AMOUNTS.model_copy(update={"noise": 0.0}), epoch)
    places = [
        torch.stack([m.argmax() // WIDTH, m.argmax() % WIDTH]) for m in (*found.image_BCHW[:, 0], *found.gaze_BHW)
    ]
    images, maps = places[:3], places[3:]
    assert max(int((image - gaze).abs().max()) for image, gaze in zip(images, maps, strict=True)) <= 1
    now, before = centres(found.gaze_BHW), centres(given.gaze_BHW)
    assert float((now - before).abs().max()) > 1, "nothing moved: this shows nothing"


def test_tones_change_in_the_image_only_and_padding_stays_black() -> None:
    still = Augmentation(degrees=0, shift=0, scale=0, brightness=0.2, contrast=0.5, gamma=0.5, noise=0.05)
    given = batch(PLACES)
    bars = given.image_BCHW.clone().clamp(min=0.1)
    bars[..., :20] = 0
    given = replace(given, image_BCHW=bars)
    found = gently(given, still)
    torch.testing.assert_close(found.gaze_BHW, given.gaze_BHW, atol=1e-7, rtol=0)
    assert float((found.image_BCHW - bars)[..., 20:].abs().mean()) > 0.01
    assert float(found.image_BCHW[..., :20].abs().max()) == 0
    assert float(found.image_BCHW.min()) >= 0
    assert float(found.image_BCHW.max()) <= 1


def test_each_row_draws_by_seed_epoch_and_id_whatever_it_is_dealt_with() -> None:
    given = batch(PLACES)
    whole = gently(given)
    alone, _ = changed(given.image_BCHW[1], given.gaze_BHW[1], AMOUNTS, draws_of(7, 0, "image-1"))
    assert torch.equal(whole.image_BCHW[1], alone)
    assert torch.equal(gently(given).gaze_BHW, whole.gaze_BHW)
    assert not torch.equal(gently(given, epoch=1).image_BCHW, whole.image_BCHW)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    gently(given)
    assert torch.equal(torch.get_rng_state(), before), "dropout draws from torch's RNG, and must not notice"


def test_nothing_is_mirrored_unless_asked_for() -> None:
    given = batch([(48.0, 30.0)] * 40)
    assert float(centres(gently(given, Augmentation()).gaze_BHW)[:, 1].max()) < WIDTH / 2
    mirrored = centres(gently(given, Augmentation(flip=1)).gaze_BHW)[:, 1]
    assert float(mirrored.min()) > WIDTH / 2


def test_gaze_is_not_pushed_out_of_the_picture() -> None:
    corner = batch([(2.0, 2.0)] * 30)
    found = gently(corner, Augmentation(shift=0.25))
    kept = found.gaze_BHW.sum(dim=(1, 2)) / corner.gaze_BHW.sum(dim=(1, 2))
    assert float(kept.min()) > 0.45
    assert any(torch.equal(after, before) for after, before in zip(found.gaze_BHW, corner.gaze_BHW, strict=True))


def test_images_without_gaze_are_changed_too() -> None:
    given = batch(PLACES)
    alone = gently(Batch(given.image_BCHW, given.label_B, torch.empty(3, 0)))
    assert alone.gaze_BHW.shape == (3, 0)
    assert torch.equal(alone.image_BCHW, gently(given).image_BCHW)
