"""A registry in a bucket: the conditional put decides who wins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from cxrgaze_ray.errors import PromotionConflict
from cxrgaze_ray.models.bundle import make_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.ledger import Draft, Ledger
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import S3Store, Store, open_store
from tests.fault_proxy import FaultProxy


class Racing(S3Store):
    """Holds whoever writes an entry until the other one has decided, too."""

    start = Barrier(2)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if key.endswith("ledger/00000003.json"):
            self.start.wait(timeout=60)
        return super().put_if_absent(key, data)

    def child(self, key: str) -> Store:
        return S3Store(self.locate(key))


def test_of_two_promoters_on_a_bucket_one_wins_and_the_other_is_told(s3: str) -> None:
    registry = Registry(open_store(s3))
    for seed in range(2):
        registry.publish(make_bundle(build(PRESETS["tiny"], seed), "net", trained=True))
    registry.promote("net", "v1")

    def promote(version: str) -> ModelPin | PromotionConflict:
        try:
            return Registry(Racing(s3)).promote("net", version, who=f"who wants {version}")
        except PromotionConflict as conflict:
            return conflict

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(promote, ["v1", "v2"]))
    (won,) = (one for one in ended if isinstance(one, ModelPin))
    (told,) = (one for one in ended if isinstance(one, PromotionConflict))
    assert f"net@champion was moved to {won.version} just now by who wants v{won.version[-1]}" in str(told)
    assert registry.resolve("net@champion") == won
    assert len(registry.history("net")) == 4
    assert verify_registry(registry, "net", registry.head("net")) == []


def test_a_poll_of_an_alias_asks_for_what_is_new_only(fault_proxy: FaultProxy, s3: str) -> None:
    registry, ledger = Registry(open_store(s3)), Ledger(open_store(s3), "net")
    registry.publish(make_bundle(build(PRESETS["tiny"], 0), "net", trained=True))
    registry.promote("net", "v1")
    chain = ledger.read()
    for number in range(38):
        look = Draft(action="look", version=None, weights_sha256=f"{number:064x}", stores=("s",))
        chain = ledger.append(chain, look) or chain
    assert len(chain.entries) == 40

    def asked(new: int) -> None:
        """Resolve the alias, and count: a listing, and one object each for the bundle and for every new entry."""
        fault_proxy.clear()
        assert polling.resolve("net@champion").version == "v0001"
        paths = [request.path.partition("?") for request in fault_proxy.requests]
        entries = [path for path, _, _ in paths if "/ledger/" in path]
        listings = [query for _, _, query in paths if "list-type=2" in query]
        assert (len(entries), len(listings)) == (new, 1 if new < 40 else 2)
        assert len(paths) == len(entries) + len(listings) + 1

    polling = Registry(open_store(s3))
    asked(40)
    asked(0)
    registry.look("net", "f" * 64, ["s"])
    asked(1)
    asked(0)
    fault_proxy.clear()
    assert verify_registry(polling, "net", polling.head("net")) == []
    assert len({one.path for one in fault_proxy.requests if "/ledger/0" in one.path}) == 41, "it trusts no memory"
