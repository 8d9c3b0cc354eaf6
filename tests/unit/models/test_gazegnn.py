"""GazeGNN: the gaze is really read, and the graph is the one that it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cxrgaze_ray.errors import BundleError, ConfigError
from cxrgaze_ray.models.bundle import golden_image, make_bundle
from cxrgaze_ray.models.gazegnn import GazeGNN
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.settings import architecture
from cxrgaze_ray.models.vision_gnn import MaxRelativeConv
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import gaze_to_network, to_network
from cxrgaze_ray.schemas import HEIGHT, WIDTH


def tiny(seed: int = 3) -> GazeGNN:
    network = build(architecture("gazegnn", "tiny"), seed=seed)
    assert isinstance(network, GazeGNN)
    return network


def spot(row: int, column: int) -> Tensor:
    """Return a density of gaze (1, 128, 128) around a place."""
    y, x = torch.meshgrid(torch.arange(128), torch.arange(128), indexing="ij")
    density = torch.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 6.0**2))
    return (density / density.sum())[None]


IMAGE = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_other_gaze_gives_another_answer() -> None:
    network = tiny().eval()
    first, same, other = (network(IMAGE, gaze).logits_BK for gaze in (spot(30, 40), spot(30, 40), spot(90, 80)))
    assert torch.equal(first, same)
    assert float((first - other).abs().max()) > 1e-4


def test_gaze_is_normalised_to_a_spread_that_counts() -> None:
    """Shares of 1 would have a variance far below batch norm's epsilon, and hardly be seen beside the image."""
    network, seen = tiny().train(), []
    network.gaze_norm.register_forward_hook(lambda _module, _given, found: seen.append(found))
    network(IMAGE.expand(2, -1, -1, -1), torch.cat([spot(30, 40), spot(90, 80)]))
    grid = seen[0].detach()
    assert grid.shape == (2, 1, 32, 32)
    assert float(grid.std()) == pytest.approx(1, abs=0.01)
    peak = int(grid[0, 0].argmax())
    assert (peak // 32, peak % 32) == (30 // 4, 40 // 4)


def test_gaze_that_is_missing_or_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the gaze is missing"):
        tiny()(IMAGE)
    with pytest.raises(ValueError, match="is not of the images'"):
        tiny()(IMAGE, torch.zeros(1, 32, 32))


def test_the_graph_is_laid_out_for_one_size() -> None:
    with pytest.raises(ValueError, match="160x128 is not 128x128"):
        tiny()(torch.zeros(1, 1, 160, 128), torch.zeros(1, 160, 128))


def test_settings_without_enough_nodes_are_refused() -> None:
    with pytest.raises(ConfigError, match="the last stage has 4 nodes, fewer than 9 neighbours"):
        architecture("gazegnn", "tiny", {"input_size": (64, 64)})
    with pytest.raises(ConfigError, match="channels 18 is not a multiple of 4"):
        architecture("gazegnn", "tiny", {"channels": (18, 24, 32, 48)})


def graphs(network: nn.Module) -> list[MaxRelativeConv]:
    return [module for module in network.modules() if isinstance(module, MaxRelativeConv)]


def test_the_full_network_s_graphs_are_the_paper_s() -> None:
    with torch.device("meta"):
        found = graphs(build(architecture("gazegnn", "full")))
    assert [graph.pool for graph in found] == [4] * 2 + [2] * 2 + [1] * 8
    assert [graph.dilation for graph in found] == [1] * 4 + [2] * 4 + [3] * 4
    assert {graph.neighbours for graph in found} == {9}
    assert [tuple(graph.nearness_NM.shape) for graph in found] == (
        [(3136, 196)] * 2 + [(784, 196)] * 2 + [(196, 196)] * 6 + [(49, 49)] * 2
    )


def test_nearness_falls_with_the_distance_of_places() -> None:
    nearness = MaxRelativeConv(16, (8, 8), 1, 9, 1).nearness_NM.view(8, 8, 8, 8)
    assert torch.allclose(nearness[3, 4, 3, 4], torch.ones(()))
    assert torch.allclose(nearness, nearness.permute(2, 3, 0, 1))
    assert float(nearness[3, 4, 3, 5]) > float(nearness[3, 4, 3, 6]) > float(nearness[3, 4, 6, 6])
    pooled = MaxRelativeConv(16, (8, 8), 2, 9, 1).nearness_NM.view(8, 8, 4, 4)
    assert int(pooled[5, 2].argmax()) == 2 * 4 + 1, "a node is nearest to the key that it is pooled into"


@torch.inference_mode()
@pytest.mark.parametrize(("pool", "neighbours", "dilation"), [(1, 3, 1), (2, 2, 2), (1, 4, 3)])
def test_a_graph_convolution_is_of_the_largest_differences(pool: int, neighbours: int, dilation: int) -> None:
    """Node by node: its nearest keys, of them every `dilation`-th, and the largest difference to these."""
    generator = torch.Generator().manual_seed(4)
    layer = MaxRelativeConv(4, (4, 6), pool, neighbours, dilation).eval()
    x = torch.randn(2, 4, 4, 6, generator=generator)
    keys = functional.avg_pool2d(x, pool).flatten(2)
    nodes = x.flatten(2)
    joined = torch.empty(2, 8, 24)
    for image in range(2):
        for node in range(24):
            here = nodes[image, :, node]
            distance = [
                float((here / here.norm() - key / key.norm()).square().sum() - layer.nearness_NM[node, place])
                for place, key in enumerate(keys[image].T)
            ]
            ranked = sorted(range(len(distance)), key=distance.__getitem__)[: neighbours * dilation : dilation]
            assert len(ranked) == neighbours
            joined[image, 0::2, node] = here
            joined[image, 1::2, node] = (keys[image][:, ranked] - here[:, None]).amax(dim=1)
    torch.testing.assert_close(layer(x), layer.mix(joined.view(2, 8, 4, 6)))


def test_a_predictor_without_gaze_refuses_with_one_clear_line() -> None:
    predictor = Predictor.from_bundle(make_bundle(tiny(), "net", trained=False))
    with pytest.raises(BundleError, match="net reads the reader's gaze beside the image"):
        predictor.predict(golden_image(1)[None])


@pytest.mark.parametrize("size", [(224, 224), (128, 128), (96, 160)])
@pytest.mark.parametrize("place", [(80, 60), (333, 451), (600, 256)])
def test_image_and_gaze_come_to_the_network_s_grid_alike(size: tuple[int, int], place: tuple[int, int]) -> None:
    """640x512 has no whole ratio to 224x224."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    disc = torch.exp(-((y - place[0]) ** 2 + (x - place[1]) ** 2) / (2 * 12.0**2)).numpy()
    image = to_network((disc * 65535).astype("uint16")[None], size)[:, 0]
    gaze = gaze_to_network(disc[None], size)
    assert image.shape == gaze.shape == (1, *size)
    assert float(gaze.sum()) == pytest.approx(1, abs=1e-5)
    image = image / image.sum()
    expected = [(place[0] + 0.5) * size[0] / HEIGHT - 0.5, (place[1] + 0.5) * size[1] / WIDTH - 0.5]
    for density in (image, gaze):
        rows, columns = density[0].sum(dim=1), density[0].sum(dim=0)
        centre = [float(rows @ torch.arange(size[0]).float()), float(columns @ torch.arange(size[1]).float())]
        assert centre == pytest.approx(expected, abs=0.3)
