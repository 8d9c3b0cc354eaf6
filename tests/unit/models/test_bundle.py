"""Bundles: what is read is what was written, or an error."""

from __future__ import annotations

import hashlib
import json
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save

from cxrgaze_ray import __version__
from cxrgaze_ray.errors import BundleError, ConfigError, StoreUnavailable
from cxrgaze_ray.models.bundle import (
    INFO,
    WEIGHTS,
    Bundle,
    BundleInfo,
    Golden,
    Lineage,
    check_bundle,
    golden_image,
    make_bundle,
    read_bundle,
    read_info,
    write_bundle,
)
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE, profile_names, profile_sha256
from cxrgaze_ray.schemas import CLASSES
from cxrgaze_ray.storage import LocalStore

LINEAGE = Lineage(store_sha256="ab" * 32, parent="cxrgaze@v0001", settings={"seed": 4}, backbone="fresh")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return make_bundle(build(PRESETS["tiny"], seed=2), "tiny-one", trained=True, lineage=LINEAGE)


@pytest.fixture
def store(tmp_path: Path, bundle: Bundle) -> LocalStore:
    """Return a store that holds the bundle."""
    store = LocalStore(str(tmp_path / "bundle"))
    write_bundle(store, bundle)
    return store


def edit(store: LocalStore, **values: Any) -> None:
    store.put(INFO, json.dumps(json.loads(store.get(INFO)) | values).encode())


def test_what_is_read_is_what_was_written(store: LocalStore, bundle: Bundle) -> None:
    found = read_bundle(store)
    assert found.info == bundle.info
    assert found.state.keys() == bundle.state.keys()
    for name, tensor in bundle.state.items():
        assert found.state[name].dtype == tensor.dtype
        assert torch.equal(found.state[name], tensor)


def test_the_info_says_what_scoring_needs(store: LocalStore) -> None:
    info = read_info(store)
    assert (info.name, info.trained, info.network) == ("tiny-one", True, PRESETS["tiny"])
    assert (info.classes, info.temperature) == (CLASSES, 1.0)
    assert (info.profile, info.profile_sha256) == (DEFAULT_PROFILE, profile_sha256(DEFAULT_PROFILE))
    assert info.lineage == LINEAGE
    assert info.lineage.code_version == __version__
    assert "Research only" in info.intended_use


def test_the_network_of_a_bundle_answers_as_the_one_it_was_made_of(store: LocalStore) -> None:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    network = read_bundle(store).network()
    assert not network.training
    with torch.inference_mode():
        expected, found = build(PRESETS["tiny"], seed=2).eval()(image), network(image)
    assert torch.equal(found.logits_BK, expected.logits_BK)
    assert torch.equal(found.log_saliency_B1HW, expected.log_saliency_B1HW)


def test_a_bundle_does_not_follow_the_network_it_was_made_of(tmp_path: Path) -> None:
    network = build(PRESETS["tiny"])
    bundle = make_bundle(network, "tiny", trained=False)
    with torch.no_grad():
        network.classifier.out.bias.add_(1)
    write_bundle(LocalStore(str(tmp_path)), bundle)
    found = read_bundle(LocalStore(str(tmp_path)))
    assert torch.equal(found.state["classifier.out.bias"], build(PRESETS["tiny"]).classifier.out.bias)


def test_the_layout_of_a_network_does_not_change_its_bundle() -> None:
    network = build(PRESETS["tiny"])
    plain = make_bundle(network, "tiny", trained=False)
    other = make_bundle(network.to(memory_format=torch.channels_last), "tiny", trained=False)
    assert other.info.weights_sha256 == plain.info.weights_sha256


@pytest.mark.parametrize("trained", [True, False])
def test_whether_it_was_trained_is_kept(tmp_path: Path, trained: bool) -> None:
    store = LocalStore(str(tmp_path))
    write_bundle(store, make_bundle(build(PRESETS["tiny"]), "tiny", trained=trained))
    assert read_bundle(store).info.trained is trained


def test_what_is_not_finite_is_never_written(tmp_path: Path, bundle: Bundle) -> None:
    store = LocalStore(str(tmp_path))
    state = {name: tensor.clone() for name, tensor in bundle.state.items()}
    state["classifier.out.bias"][0] = torch.inf
    with pytest.raises(BundleError, match=r"tiny-one are not finite: 1 tensors, first classifier\.out\.bias"):
        write_bundle(store, Bundle(bundle.info, state))
    golden = (Golden(seed=1, logits=(0.0, 1.0, 2.0)), Golden(seed=2, logits=(0.0, float("nan"), 2.0)))
    with pytest.raises(BundleError, match=r"answers of .* to golden images are not finite"):
        write_bundle(store, Bundle(bundle.info.model_copy(update={"golden": golden}), bundle.state))
    assert list(store.list()) == []


def test_weights_that_are_not_finite_are_refused_however_they_came_there(store: LocalStore, bundle: Bundle) -> None:
    state = bundle.state | {"classifier.out.bias": torch.full((3,), torch.nan)}
    store.put(WEIGHTS, save(state))
    edit(store, weights_sha256=hashlib.sha256(save(state)).hexdigest())
    with pytest.raises(BundleError, match="not finite"):
        read_bundle(store)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.0])
def test_weights_are_judged_finite_without_torch_as_with_it(
    store: LocalStore, bundle: Bundle, dtype: torch.dtype, value: float
) -> None:
    data = save({"whole": torch.arange(3), "w": torch.tensor([0.5, value, -2.0]).to(dtype)})
    info = bundle.info.model_copy(update={"weights_sha256": hashlib.sha256(data).hexdigest()})
    store.put(WEIGHTS, data)
    store.put(INFO, info.model_dump_json().encode())
    for check in (read_bundle, check_bundle):
        with nullcontext() if value == 1.0 else pytest.raises(BundleError, match="not finite: 1 tensors, first w"):
            check(store)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_a_temperature_is_a_number_to_divide_by(bundle: Bundle, temperature: float) -> None:
    with pytest.raises(ValidationError, match="temperature"):
        BundleInfo.model_validate(bundle.info.model_dump() | {"temperature": temperature})


def test_metrics_and_golden_answers_are_kept(store: LocalStore, bundle: Bundle) -> None:
    golden = (Golden(seed=1, logits=(0.1, -1.5, 1e-9)), Golden(seed=2, logits=(1 / 3, 2.0, 3.0)))
    info = bundle.info.model_copy(update={"golden": golden, "temperature": 1.25})
    metrics = {"diagnosis": {"auc_macro": 0.9, "auc_micro": None}, "images": 3}
    write_bundle(store, Bundle(info, bundle.state).with_metrics(metrics))
    found = read_info(store)
    assert (found.golden, found.temperature, found.metrics) == (golden, 1.25, metrics)


def test_the_weights_are_safetensors_and_no_pickle(store: LocalStore, bundle: Bundle) -> None:
    data = store.get(WEIGHTS)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert header.keys() - {"__metadata__"} == bundle.state.keys()
    assert len(data) == 8 + length + sum(tensor.nbytes for tensor in bundle.state.values())
    assert {info.key for info in store.list()} == {WEIGHTS, INFO}


def test_a_changed_byte_is_found_wherever_it_is(store: LocalStore) -> None:
    whole = store.get(WEIGHTS)
    for position in (0, 20, len(whole) // 2, len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        store.put(WEIGHTS, bytes(changed))
        with pytest.raises(BundleError, match=r"do not match their hash.*Do not use it"):
            read_bundle(store)


@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_weights_cut_short_are_found(store: LocalStore, share: float) -> None:
    whole = store.get(WEIGHTS)
    store.put(WEIGHTS, whole[: int(share * len(whole))])
    with pytest.raises(BundleError, match="cut short"):
        read_bundle(store)


def test_weights_that_are_no_safetensors_are_refused(store: LocalStore) -> None:
    store.put(WEIGHTS, b"")
    edit(store, weights_sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    with pytest.raises(BundleError, match="not safetensors"):
        read_bundle(store)


@pytest.mark.parametrize("read", [read_info, read_bundle])
def test_an_absent_bundle_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(BundleError, match=rf"There is no bundle at {tmp_path}/none\. See `cxrgaze models list`"):
        read(LocalStore(str(tmp_path / "none")))


def test_absent_weights_are_named(store: LocalStore) -> None:
    store.delete(WEIGHTS)
    with pytest.raises(BundleError, match="has no weights"):
        read_bundle(store)


def test_a_write_that_stops_halfway_leaves_no_bundle(tmp_path: Path, bundle: Bundle) -> None:
    class Stopping(LocalStore):
        def put(self, key: str, data: bytes) -> None:
            if list(self.list()):
                raise StoreUnavailable("The disk is full.")
            super().put(key, data)

    with pytest.raises(StoreUnavailable):
        write_bundle(Stopping(str(tmp_path)), bundle)
    with pytest.raises(BundleError, match="no bundle"):
        read_bundle(LocalStore(str(tmp_path)))


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"network": {"depth": 7}},
        {"network": {"input_size": [650, 512]}},
        {"lineage": {"author": "x"}},
        {"trained": "perhaps"},
        {"temperature": 0},
        {"temperature": -1},
    ],
    ids=str,
)
def test_settings_that_this_version_does_not_know_are_refused(store: LocalStore, change: dict[str, Any]) -> None:
    edit(store, **change)
    with pytest.raises(BundleError, match="This version can't read"):
        read_bundle(store)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_an_info_that_is_no_json_object_is_refused(store: LocalStore, data: bytes) -> None:
    store.put(INFO, data)
    with pytest.raises(BundleError, match="This version can't read"):
        read_info(store)


def test_other_classes_are_refused(store: LocalStore) -> None:
    edit(store, classes=["normal", "pneumonia", "heart_failure"])
    with pytest.raises(BundleError, match="predicts normal, pneumonia, heart_failure"):
        read_bundle(store)


def test_a_profile_that_has_changed_since_is_refused(store: LocalStore) -> None:
    edit(store, profile_sha256="0" * 64)
    with pytest.raises(BundleError, match=rf"Profile {DEFAULT_PROFILE} is not what it was"):
        read_bundle(store)


def test_an_unknown_profile_is_refused(store: LocalStore) -> None:
    edit(store, profile="cxrgaze-v99")
    with pytest.raises(BundleError, match=r"profile cxrgaze-v99, which this version does not have\. Use the version"):
        read_bundle(store)


@pytest.mark.parametrize("profile", profile_names())
def test_a_bundle_carries_the_profile_it_learned_from(tmp_path: Path, bundle: Bundle, profile: str) -> None:
    made = make_bundle(bundle.network(), "other", trained=True, profile=profile)
    write_bundle(LocalStore(str(tmp_path)), made)
    info = read_bundle(LocalStore(str(tmp_path))).info
    assert (info.profile, info.profile_sha256) == (profile, profile_sha256(profile))


def test_a_bundle_is_not_made_of_an_unknown_profile(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no profile other"):
        make_bundle(bundle.network(), "other", trained=True, profile="other")


def test_a_bundle_refuses_images_of_another_profile(bundle: Bundle) -> None:
    bundle.info.check_profile(DEFAULT_PROFILE)
    bundle.info.check_profile(DEFAULT_PROFILE, profile_sha256(DEFAULT_PROFILE))
    with pytest.raises(BundleError, match=r"profile cxrgaze-v1, not released-v1"):
        bundle.info.check_profile("released-v1", profile_sha256("released-v1"))
    with pytest.raises(BundleError, match="other settings than the bundle's"):
        bundle.info.check_profile(DEFAULT_PROFILE, "0" * 64)


def test_weights_of_another_network_are_refused(bundle: Bundle) -> None:
    wider = bundle.info.model_copy(update={"network": PRESETS["tiny"].model_copy(update={"fusion_hidden": 16})})
    with pytest.raises(BundleError, match=r"3 tensors differ, first classifier\.hidden\.weight"):
        Bundle(wider, bundle.state).network()
    missing = {name: tensor for name, tensor in bundle.state.items() if name != "decoder.stages.0.up.1.bias"}
    with pytest.raises(BundleError, match=r"1 tensors differ, first decoder\.stages\.0\.up\.1\.bias"):
        Bundle(bundle.info, missing).network()
    with pytest.raises(BundleError, match="1 tensors differ, first extra"):
        Bundle(bundle.info, bundle.state | {"extra": torch.zeros(1)}).network()


def test_settings_are_frozen(bundle: Bundle) -> None:
    with pytest.raises(ValidationError):
        bundle.info.trained = False  # type: ignore[misc]


def test_an_info_needs_to_say_whether_it_was_trained(bundle: Bundle) -> None:
    with pytest.raises(ValidationError, match="trained"):
        BundleInfo.model_validate(bundle.info.model_dump(exclude={"trained"}))


def test_golden_images_come_from_their_seed() -> None:
    image = golden_image(3)
    assert image.dtype == np.uint16
    assert image.shape == (640, 512)
    assert (int(image.min()), int(image.max())) == (0, 65535)
    assert np.array_equal(image, golden_image(3))
    assert not np.array_equal(image, golden_image(4))
    # smooth: resampling and rounding on other machines hardly change it
    assert np.abs(np.diff(image.astype(int), axis=0)).max() < 65535 / 20
