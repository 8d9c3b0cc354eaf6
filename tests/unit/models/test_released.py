"""Released checkpoints: every tensor in its place, or a refusal that names what is wrong; code in a file never runs."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from cxrgaze_ray.errors import BundleError, StoreNotFound, UserError
from cxrgaze_ray.models import released
from cxrgaze_ray.models.bundle import Bundle, golden_image, read_bundle
from cxrgaze_ray.models.densenet import load_backbone
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.predictor import Predictor
from cxrgaze_ray.models.released import read_released, released_backbone, released_bundle, released_names
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import to_network
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.reports.model_card import model_card
from cxrgaze_ray.storage import LocalStore, open_store
from tests.command import Cxrgaze
from tests.unit.models.released_layout import Released, shaken

TINY = PRESETS["tiny"]
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def source() -> Released:
    return shaken(TINY)


@pytest.fixture
def state(source: Released) -> State:
    return {name: tensor.clone() for name, tensor in source.state_dict().items()}


def parallel(state: State) -> State:
    return {
        name.replace("model.", "model.module.", 1) if name[:6] == "model." else name: t for name, t in state.items()
    }


def written(folder: Path, state: object) -> str:
    torch.save(state, folder / "net.pth")
    return str(folder / "net.pth")


def bundle_of(uri: str) -> Bundle:
    return released_bundle(uri, read_released(uri), "other", TINY)


@pytest.mark.parametrize("wrap", [dict, parallel], ids=["plain", "parallel"])
def test_the_bundle_answers_as_the_released_network(
    tmp_path: Path, source: Released, state: State, wrap: Callable[[State], State]
) -> None:
    bundle = bundle_of(written(tmp_path, wrap(state)))
    images = np.stack([golden_image(5), golden_image(6)])
    found = Predictor.from_bundle(bundle).predict(images)
    with torch.inference_mode():
        log_saliency, logits = source(to_network(images, TINY.input_size))
        own = bundle.network()(to_network(images, TINY.input_size))
    assert torch.equal(own.logits_BK, logits)
    assert torch.equal(own.log_saliency_B1HW, log_saliency)
    assert found.logits_BK is not None
    np.testing.assert_allclose(found.logits_BK, logits.numpy(), atol=1e-5)
    assert np.ptp(logits.numpy()) > 0.01


def test_every_tensor_goes_to_its_own_place(tmp_path: Path, state: State) -> None:
    bundle = bundle_of(written(tmp_path, state))
    names = released_names(bundle.state, state)
    assert set(names.values()) == {name for name in state if not name.startswith(("conv.", "dummy", "lg_sigma"))}
    assert all(torch.equal(bundle.state[ours], state[theirs]) for ours, theirs in names.items())


def test_the_full_network_has_1415_tensors_of_66_million_weights() -> None:
    with torch.device("meta"):
        ours, theirs = build(PRESETS["full"]).state_dict(), Released(PRESETS["full"]).state_dict()
    names = released_names(ours, theirs)
    assert len(set(names.values())) == len(ours) == 1415
    assert theirs.keys() - set(names.values()) == {"conv.weight", "conv.bias", "dummy_tensor", "lg_sigma_class"}
    assert all(ours[name].shape == theirs[names[name]].shape for name in ours)


def test_the_bundle_says_where_it_is_from(tmp_path: Path, state: State) -> None:
    uri = written(tmp_path, state)
    info = bundle_of(uri).info
    assert (info.trained, info.profile, info.network, info.classes) == (
        True, "released-v1", TINY, ("normal", "heart_failure", "pneumonia"),
    )  # fmt: skip
    assert info.lineage.imported_format == "cxrgazelearn"
    assert info.lineage.imported_sha256 == hashlib.sha256(Path(uri).read_bytes()).hexdigest()
    assert "trained elsewhere" in info.lineage.caution
    assert len(info.golden) == 2
    assert str(tmp_path) not in info.model_dump_json()


def test_the_card_of_an_import_says_so(tmp_path: Path, state: State) -> None:
    registry = Registry(LocalStore(str(tmp_path / "registry")))
    pin = registry.publish(bundle_of(written(tmp_path, state)), "imported")
    assert registry.promote("other", pin.version).trained
    text = model_card(registry, "other", "md").text
    for part in (
        "| imported by | cxrgaze",
        "| imported format | cxrgazelearn |",
        "imported sha256",
        "trained elsewhere",
    ):
        assert part in text


@pytest.mark.long
def test_safetensors_of_the_same_names_give_the_same_bundle(tmp_path: Path, state: State) -> None:
    save_file(state, tmp_path / "net.safetensors")
    one, other = bundle_of(str(tmp_path / "net.safetensors")), bundle_of(written(tmp_path, state))
    assert one.info.weights_sha256 == other.info.weights_sha256


def test_the_older_format_of_torch_is_read(tmp_path: Path, state: State) -> None:
    torch.save(state, tmp_path / "net.pth", _use_new_zipfile_serialization=False)
    assert read_released(str(tmp_path / "net.pth")).state.keys() < state.keys()


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda s: s.pop("Up_conv3.3.bias"), r"1 missing, Up_conv3\.3\.bias\."),
        (lambda s: s.pop("Conv1.0.bn2.num_batches_tracked"), r"1 missing, Conv1\.0\.bn2\.num_batches_tracked"),
        (lambda s: s.update(extra=torch.ones(1)), "1 left over, extra"),
        (lambda s: s.update({"dummy_tensor2.weight": torch.ones(1)}), r"1 left over, dummy_tensor2\.weight"),
        (lambda s: s.update(lg_sigma_classes=torch.ones(1)), "1 left over, lg_sigma_classes"),
        (lambda s: s.update({"convolution.weight": torch.ones(1)}), r"1 left over, convolution\.weight"),
        (
            lambda s: s.update({"model.classifier.bias": torch.ones(4)}),
            r"1 of another shape or type, model\.classifier",
        ),
        (lambda s: s.update({"model.classifier.bias": torch.ones(3).double()}), r"1 of another shape or type"),
        (lambda s: [s.pop(name) for name in list(s) if name[:3] == "Up1"], "7 missing, Up1.1.weight.* and others"),
        (
            lambda s: s.update({"model.module.classifier.bias": s.pop("model.classifier.bias")}),
            r"missing, model\.module\..*left over, model\.features",
        ),
    ],
)
def test_a_network_that_is_not_the_released_one_is_named(
    tmp_path: Path, state: State, edit: Callable[[State], Any], named: str
) -> None:
    edit(state)
    with pytest.raises(BundleError, match=named):
        bundle_of(written(tmp_path, state))


def test_another_preset_does_not_fit(tmp_path: Path, state: State) -> None:
    uri = written(tmp_path, state)
    with pytest.raises(BundleError, match="missing"):
        released_bundle(uri, read_released(uri), "other", PRESETS["small"])


def test_weights_that_are_not_finite_are_refused(tmp_path: Path, state: State) -> None:
    state["Conv2.0.conv1.bias"][0] = torch.nan
    with pytest.raises(UserError, match=r"not finite: 1 tensors, Conv2\.0\.conv1\.bias"):
        read_released(written(tmp_path, state))


@pytest.mark.parametrize("head", [True, False])
def test_a_contrastive_file_becomes_first_weights(tmp_path: Path, state: State, head: bool) -> None:
    given = {
        name: tensor
        for name, tensor in parallel(state).items()
        if name.startswith("model.module.features." if not head else "model.module.")
    }
    uri = written(tmp_path, given)
    checkpoint = read_released(uri)
    with pytest.raises(UserError, match=r"DenseNet only.*--out FILE"):
        released_bundle(uri, checkpoint, "other", TINY)
    (tmp_path / "first.safetensors").write_bytes(released_backbone(uri, checkpoint, TINY))
    densenet = build(TINY, seed=9).densenet
    assert load_backbone(densenet, str(tmp_path / "first.safetensors")).source == "file"
    for name, tensor in densenet.features.state_dict().items():
        assert torch.equal(tensor, state[f"model.features.{name}"])
    with safe_open(tmp_path / "first.safetensors", "pt") as file:
        assert ("classifier.weight" in file.keys()) is head  # noqa: SIM118
        assert file.metadata()["imported_sha256"] == checkpoint.sha256


def test_a_whole_network_gives_first_weights_too(tmp_path: Path, state: State) -> None:
    uri = written(tmp_path, state)
    (tmp_path / "first.safetensors").write_bytes(released_backbone(uri, read_released(uri), TINY))
    densenet = build(TINY, seed=9).densenet
    load_backbone(densenet, str(tmp_path / "first.safetensors"))
    assert torch.equal(densenet.features.norm5.running_var, state["model.features.norm5.running_var"])


@pytest.mark.parametrize("missing", ["features.norm5.weight", "classifier.bias"])
def test_first_weights_need_all_of_densenet(tmp_path: Path, state: State, missing: str) -> None:
    uri = written(tmp_path, {name: t for name, t in parallel(state).items() if name != f"model.module.{missing}"})
    with pytest.raises(BundleError, match=f"1 missing, model.module.{missing}"):
        released_backbone(uri, read_released(uri), TINY)


class Boom:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_pickle_is_never_run(tmp_path: Path, state: State, plain: bool) -> None:
    hostile = {**state, "Conv1.0.bn1.weight": Boom(tmp_path / "ran")}
    (tmp_path / "net.pth").write_bytes(pickle.dumps(hostile)) if plain else written(tmp_path, hostile)
    with pytest.raises(UserError, match="No code in it was run"):
        read_released(str(tmp_path / "net.pth"))
    assert not (tmp_path / "ran").exists()
    if plain:
        pickle.loads((tmp_path / "net.pth").read_bytes())  # noqa: S301
        assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_torn_file_is_refused(tmp_path: Path, state: State, share: float, kind: str) -> None:
    torch.save(state, tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    whole = (tmp_path / f"net.{kind}").read_bytes()
    (tmp_path / "torn").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"torn|not a whole safetensors file"):
        read_released(str(tmp_path / "torn"))


@pytest.mark.parametrize(
    "content",
    [
        [1, 2], {}, {"state_dict": {"a": torch.ones(1)}, "epoch": 4}, {"a": [torch.ones(1)]}, {1: torch.ones(1)},
        torch.ones(3), {"a": torch.ones(3).to_sparse()}, {"a": torch.empty(3, device="meta")},
    ],
    ids=["list", "empty", "training", "nested", "numbers", "tensor", "sparse", "meta"],
)  # fmt: skip
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(UserError, match=r"not a bare state dict|no state dict from torch\.save"):
        read_released(written(tmp_path, content))


def test_a_file_that_unfolds_is_refused(tmp_path: Path, state: State) -> None:
    folded = io.BytesIO()
    with (
        zipfile.ZipFile(written(tmp_path, state)) as before,
        zipfile.ZipFile(folded, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for part in before.infolist():
            after.writestr(part.filename, before.read(part))
    (tmp_path / "net.pth").write_bytes(folded.getvalue())
    with pytest.raises(UserError, match="compressed parts"):
        read_released(str(tmp_path / "net.pth"))


def test_tensors_that_unfold_are_refused(tmp_path: Path, state: State) -> None:
    with pytest.raises(UserError, match="unfold to more"):
        read_released(written(tmp_path, state | {"Conv1.0.bn1.bias": torch.zeros(1).expand(2**40)}))


@pytest.mark.parametrize("name", ["dummy_tensor", "encoder.layer1.weight"])
def test_a_file_without_a_name_of_the_network_is_told_in_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=r"network: no tensor in it has a name that the network needs\."):
        bundle_of(written(tmp_path, {name: torch.ones(1)}))


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "net.pth").open("wb") as file:
        file.truncate(released.MAX_BYTES + 1)  # a hole: takes no space
    monkeypatch.setattr(LocalStore, "fetch", None)
    with pytest.raises(UserError, match=r"has 1\.1 GB"):
        read_released(str(tmp_path / "net.pth"))


def test_an_absent_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound, match=r"There is no file .*none\.pth"):
        read_released(str(tmp_path / "none.pth"))
    with pytest.raises(StoreNotFound, match=r"is a folder, not a file"):
        read_released(str(tmp_path))


def test_the_command_writes_first_weights_and_publishes_nothing(
    tmp_path: Path, cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    monkeypatch.setitem(PRESETS, "full", TINY)
    first, registry = tmp_path / "first.safetensors", tmp_path / "registry"
    told = cxrgaze(
        "models", "import", written(tmp_path, parallel(state)), "--format", "cxrgazelearn",
        "--out", first, "--registry", registry,
    )  # fmt: skip
    assert told.code == 0
    assert f"DenseNet's weights are in {first}; no model was published" in told.out
    assert first.exists()
    assert not registry.exists()


def test_the_command_publishes_at_the_size_that_is_asked_for(
    tmp_path: Path, cxrgaze: Cxrgaze, monkeypatch: pytest.MonkeyPatch, state: State
) -> None:
    monkeypatch.setitem(PRESETS, "full", TINY)
    where = ("--registry", tmp_path / "registry")
    given = ("models", "import", written(tmp_path, state), "--format", "cxrgazelearn")
    told = cxrgaze(*given, "--name", "theirs", "--input-size", "320x256", *where)
    assert told.code == 0, told.err
    assert f"theirs@v0001 is published in {tmp_path}/registry. It reads images of profile released-v1." in told.out
    assert "trained elsewhere" in told.err
    shown = cxrgaze("models", "show", "theirs", *where, "--json").json
    assert shown["bundle"]["network"]["input_size"] == [320, 256]
    assert [(entry["action"], entry["reason"]) for entry in shown["ledger"]] == [
        ("publish", "imported, format cxrgazelearn")
    ]
    assert cxrgaze("models", "promote", "theirs", "v0001", *where).code == 0
    assert cxrgaze("models", "verify", "theirs", *where).code == 0


def test_the_command_refuses_before_it_publishes(tmp_path: Path, cxrgaze: Cxrgaze) -> None:
    (tmp_path / "net.pth").write_bytes(b"<html>not found</html>")
    told = cxrgaze("models", "import", tmp_path / "net.pth", "--format", "cxrgazelearn", "--registry", tmp_path / "r")
    assert (told.code, told.out) == (2, "")
    assert "is torn, or holds more than tensors" in told.err
    assert not list((tmp_path / "r").rglob("bundle.json"))


@pytest.mark.long
def test_a_file_of_full_size_becomes_a_model_that_scores(tmp_path: Path, cxrgaze: Cxrgaze) -> None:
    source = shaken(PRESETS["full"])
    uri = written(tmp_path, source.state_dict())
    told = cxrgaze(
        "models", "import", uri, "--format", "cxrgazelearn", "--input-size", "320x256", "--registry", tmp_path, "--json"
    )
    assert (told.code, told.json["version"]) == (0, "v0001")
    bundle = read_bundle(open_store(told.json["uri"]))
    image = golden_image(5)[None]
    with torch.inference_mode():
        log_saliency, logits = source(to_network(image, (320, 256)))
        own = bundle.network()(to_network(image, (320, 256)))
    assert torch.equal(own.logits_BK, logits)
    assert torch.equal(own.log_saliency_B1HW, log_saliency)
