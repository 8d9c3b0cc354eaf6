"""A bundle: weights.safetensors and bundle.json, everything that scoring needs to know about a model. No pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError, deserialize

from cxrgaze_ray import __version__
from cxrgaze_ray.config import Record
from cxrgaze_ray.errors import BundleError, StoreNotFound
from cxrgaze_ray.models.calibration import Calibration
from cxrgaze_ray.models.curves import Curve
from cxrgaze_ray.models.settings import BOTH, CLASSIFYING_PHASES, HEAD_PHASE, WITH_DENSENET, Answer, AnyNetworkConfig
from cxrgaze_ray.radiograph.preprocess import DEFAULT_PROFILE, profile_names, profile_sha256
from cxrgaze_ray.schemas import CLASSES, HEIGHT, RESEARCH_ONLY, WIDTH
from cxrgaze_ray.storage import Store

if TYPE_CHECKING:
    from torch import Tensor

    from cxrgaze_ray.models.network import Network

WEIGHTS, INFO = "weights.safetensors", "bundle.json"


class Lineage(Record):
    """The origin of the weights."""

    store_sha256: str | None = None
    stores: tuple[str, ...] = ()
    """Hashes of the stores behind `store_sha256`, if there are several."""

    parent: str | None = None
    """Parent model as NAME@VERSION: an alias would later stand for another."""

    parent_phases: tuple[str, ...] | None = None
    """Phases that the parent's weights went through, those of its own parents first; None if they are not recorded."""

    code_version: str = __version__
    """Version that the training was begun with."""

    settings: dict[str, Any] = {}
    """Settings of the training, its seed and stages included."""

    backbone: str | None = None
    """Source of DenseNet's first weights: imagenet, file or fresh."""

    split_by: str | None = None
    """Kind of the store's split: patient, archive or image; None if it is not recorded, or of several kinds."""

    caution: str = ""
    """Sentence on what the store's split can't vouch for."""

    calibration: Calibration | None = None
    """How the temperature was found; None in earlier bundles, and where nobody looked for one."""

    imported_format: str | None = None
    imported_sha256: str | None = None
    """For weights that others trained: format and hash of the file that they were read from."""

    @property
    def phases(self) -> tuple[str, ...] | None:
        """Return the phases that the weights went through, the parent's first; None if they are not recorded."""
        before, own = () if self.parent is None else self.parent_phases, self.settings.get("stages")
        return None if before is None or own is None else (*before, *own)


class Golden(Record):
    """The network's answers to a `golden_image`, in float32 on the machine that made the bundle."""

    seed: int
    logits: tuple[float, ...] = ()
    """Empty if the network predicts no classes."""

    saliency: tuple[float, ...] = ()
    """Shares of the map in 8x8 equal cells, times 64; empty if it predicts no saliency, or in earlier bundles."""

    def difference(self, other: Golden) -> float:
        """Return the largest absolute difference of the values that are recorded here."""
        pairs = [(self.logits, other.logits), (self.saliency, other.saliency)]
        return max(float(np.abs(np.subtract(mine, theirs)).max()) for mine, theirs in pairs if mine)


class BundleInfo(Record):
    """Contents of bundle.json."""

    name: str
    trained: bool
    """False for fresh weights, made to try out throughput and plumbing: their answers mean nothing."""

    network: AnyNetworkConfig
    predicts: tuple[Answer, ...] = BOTH
    """What the network predicts; bundles that do not say predict both."""

    profile: str = DEFAULT_PROFILE
    profile_sha256: str = ""
    classes: tuple[str, ...] = CLASSES
    weights_sha256: str
    metrics: dict[str, Any] = {}
    """Metrics from an evaluation, with intervals."""

    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Calibration: logits are divided by it before softmax."""

    lineage: Lineage = Lineage()
    curves: tuple[Curve, ...] = ()
    """Losses of the training's epochs; empty in earlier bundles, and in those of weights that others trained."""

    golden: tuple[Golden, ...] = ()
    intended_use: str = RESEARCH_ONLY
    ledger_head: str = ""
    """Hash of the ledger's last entry before this bundle was published: a ledger cut short contradicts it."""

    def check_needs_no_gaze(self) -> None:
        """Raise BundleError if the model reads the reader's gaze, which files to be scored do not come with."""
        if self.network.needs_gaze:
            raise BundleError(
                f"{self.name} reads the reader's gaze beside the image: it can't score images without it.",
                "Evaluate it on a store with gaze: cxrgaze evaluate STORE --model NAME@VERSION.",
            )

    @property
    def phases(self) -> tuple[str, ...] | None:
        """Return the phases that the weights went through; None if they are not recorded."""
        return self.lineage.phases if self.trained else ()

    @property
    def tells_classes(self) -> bool:
        """Return whether the network predicts classes, and is not known to have gone without every phase for that."""
        phases = self.phases
        taught = phases is None or bool({*phases} & {*CLASSIFYING_PHASES.get(self.network.system, ())})
        return "classes" in self.predicts and taught

    def check_cam(self) -> None:
        """Raise BundleError if the network has no DenseNet, or a trained one's head, which Grad-CAM explains, is fresh.

        A head that is not known to be fresh passes: earlier bundles do not say how their parents were trained.
        """
        if self.network.system not in WITH_DENSENET:
            raise BundleError(
                f"{self.name} is a {self.network.system}, which has no DenseNet for Grad-CAM to explain.",
                f"Ask for no Grad-CAM, or use a {', '.join(WITH_DENSENET[:-1])} or {WITH_DENSENET[-1]}.",
            )
        if self.trained and self.phases is not None and HEAD_PHASE not in self.phases:
            raise BundleError(
                f"{self.name} was trained without phase {HEAD_PHASE}: the head that Grad-CAM explains never learned.",
                "Ask for no Grad-CAM, or train the model in that phase before the ones that build on it.",
            )

    def check_profile(self, profile: str, sha256: str | None = None) -> None:
        """Raise BundleError if the model learned from images of another profile, or of other settings if given."""
        hint = f"Ingest the archive again with the version that made the bundle: --profile {self.profile}."
        if profile != self.profile:
            raise BundleError(f"The bundle reads images of profile {self.profile}, not {profile}.", hint)
        if sha256 not in (None, self.profile_sha256):
            raise BundleError(f"The images' profile {profile} has other settings than the bundle's.", hint)


@dataclass(frozen=True)
class Bundle:
    """Settings and weights of one model."""

    info: BundleInfo
    state: dict[str, Tensor]

    def with_metrics(self, metrics: dict[str, Any]) -> Bundle:
        """Return the bundle with the metrics of an evaluation."""
        return Bundle(self.info.model_copy(update={"metrics": metrics}), self.state)

    def with_calibration(self, found: Calibration) -> Bundle:
        """Return the bundle with a temperature, and how it was found."""
        lineage = self.info.lineage.model_copy(update={"calibration": found})
        changed = {"temperature": found.temperature, "lineage": lineage}
        return Bundle(self.info.model_copy(update=changed), self.state)

    def with_curves(self, curves: tuple[Curve, ...]) -> Bundle:
        """Return the bundle with its training's losses."""
        return Bundle(self.info.model_copy(update={"curves": curves}), self.state)

    def network(self) -> Network:
        """Build the network with these weights, in eval mode.

        Raises
        ------
        BundleError
            If a tensor is missing, left over, or of another shape.
        """
        # importing torch takes seconds, which reading bundle.json alone must not cost
        from cxrgaze_ray.models.state import load_strictly
        from cxrgaze_ray.models.zoo import build

        network = build(self.info.network)
        load_strictly(network, self.state, lambda what: BundleError(f"The weights do not fit the network: {what}."))
        return network.eval()


def make_bundle(
    network: Network, name: str, *, trained: bool, lineage: Lineage | None = None, profile: str = DEFAULT_PROFILE
) -> Bundle:
    """Bundle a network's weights with the profile of the images it learned from; no metrics or golden outputs yet."""
    import torch
    from safetensors.torch import save

    # copies: the network may continue learning
    state = {
        key: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in network.state_dict().items()
    }
    info = BundleInfo(
        name=name,
        trained=trained,
        network=network.config,
        predicts=network.config.predicts,
        profile=profile,
        profile_sha256=profile_sha256(profile),
        weights_sha256=hashlib.sha256(save(state)).hexdigest(),
        lineage=lineage or Lineage(),
    )
    return Bundle(info, state)


def golden_image(seed: int) -> NDArray[np.uint16]:
    """Return a smooth seeded image (640, 512) that any machine can make again: sums of a few cosines."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / HEIGHT
    waves = [np.cos(2 * np.pi * (fy * y + fx * x + phase)) for fy, fx, phase in rng.uniform(0.3, 4.0, (6, 3))]
    image = np.mean(waves, axis=0)
    scaled = (image - image.min()) / (image.max() - image.min())
    levels: NDArray[np.uint16] = np.rint(scaled * 65535).astype(np.uint16)
    return levels


def write_bundle(store: Store, bundle: Bundle, head: Callable[[], str] | None = None) -> str:
    """Write the weights, then bundle.json, which makes the bundle complete; return the hash of bundle.json.

    `head` is called in between for the ledger's head, which bundle.json then carries.

    Raises
    ------
    BundleError
        If weights or golden outputs are not finite; nothing is written.
    """
    from safetensors.torch import save

    check_finite(bundle)
    store.put(WEIGHTS, save(bundle.state))
    info = bundle.info if head is None else bundle.info.model_copy(update={"ledger_head": head()})
    data = info.model_dump_json(indent=2).encode()
    store.put(INFO, data)
    return hashlib.sha256(data).hexdigest()


def check_finite(bundle: Bundle) -> None:
    """Raise BundleError if weights or golden outputs are NaN or infinite: such a network gives no usable answer."""
    from cxrgaze_ray.models.state import not_finite

    _refuse_infinite(bundle.info, not_finite(bundle.state))


def _refuse_infinite(info: BundleInfo, wrong: Sequence[str]) -> None:
    if wrong:
        raise BundleError(
            f"The weights of {info.name} are not finite: {len(wrong)} tensors, first {wrong[0]}.",
            "Do not use them; train again, at a lower learning rate.",
        )
    if not all(np.isfinite(golden.logits + golden.saliency).all() for golden in info.golden):
        raise BundleError(
            f"The answers of {info.name} to golden images are not finite: its weights are too large.",
            "Do not use them; train again, at a lower learning rate.",
        )


def read_info(store: Store) -> BundleInfo:
    """Read bundle.json only; BundleError if it is missing or malformed."""
    return read_hashed_info(store)[0]


def read_hashed_info(store: Store) -> tuple[BundleInfo, str]:
    """Read bundle.json and the hash of its bytes; BundleError if it is missing or malformed."""
    try:
        data = store.get(INFO)
        return BundleInfo.model_validate_json(data), hashlib.sha256(data).hexdigest()
    except StoreNotFound as error:
        raise BundleError(f"There is no bundle at {store.uri}.", "See `cxrgaze models list`.") from error
    except ValidationError as error:
        raise BundleError(
            f"This version can't read {INFO} at {store.uri}.",
            "Use the version that wrote it, or restore it if it was edited.",
        ) from error


def read_bundle(store: Store) -> Bundle:
    """Read a bundle and check it.

    Raises
    ------
    BundleError
        If a file is missing or malformed, the weights are not those that were published or not finite, the classes
        differ, or this version's preprocessing profile is not the one the model was trained with.
    """
    from safetensors.torch import load

    info, data = _read_checked(store)
    with _safetensors(store):
        bundle = Bundle(info, load(data))
    check_finite(bundle)
    return bundle


def check_bundle(store: Store) -> None:
    """Make the checks of `read_bundle`, and raise as it does, without making tensors of the weights."""
    info, data = _read_checked(store)
    with _safetensors(store):
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
    _refuse_infinite(info, [name for name, tensor in tensors if not _is_finite(tensor["dtype"], tensor["data"])])


def _is_finite(dtype: str, data: bytes) -> bool:
    """Return whether a tensor holds neither NaN nor infinity; a type that NumPy lacks is judged by its exponent."""
    if dtype == "BF16":
        return bool(((np.frombuffer(data, "<u2") & 0x7F80) != 0x7F80).all())
    kind = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}.get(dtype)
    return kind is None or bool(np.isfinite(np.frombuffer(data, kind)).all())


def _read_checked(store: Store) -> tuple[BundleInfo, bytes]:
    info = read_info(store)
    try:
        data = store.get(WEIGHTS)
    except StoreNotFound as error:
        raise BundleError(
            f"The bundle at {store.uri} has no weights.", "Restore them, or publish the model again."
        ) from error
    if hashlib.sha256(data).hexdigest() != info.weights_sha256:
        raise BundleError(
            f"The weights at {store.uri} do not match their hash: the file was changed or cut short.",
            "Do not use it; restore the file, or publish the model again.",
        )
    if info.classes != CLASSES:
        raise BundleError(f"The bundle at {store.uri} predicts {', '.join(info.classes)}, not {', '.join(CLASSES)}.")
    _check_profile(info)
    return info, data


@contextmanager
def _safetensors(store: Store) -> Iterator[None]:
    try:
        yield
    except SafetensorError as error:
        raise BundleError(f"The weights at {store.uri} are not safetensors.", "Publish the model again.") from error


def _check_profile(info: BundleInfo) -> None:
    if info.profile not in profile_names():
        raise BundleError(
            f"The bundle reads images of profile {info.profile}, which this version does not have.",
            "Use the version that made it.",
        )
    if profile_sha256(info.profile) != info.profile_sha256:
        raise BundleError(
            f"Profile {info.profile} is not what it was when the bundle was made.", "Use the version that made it."
        )
