"""The registry: versions never change, aliases move by ledger entries only."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from cxrgaze_ray.errors import BundleError, PromotionConflict, RegistryError, StoreUnavailable, UserError
from cxrgaze_ray.models.bundle import INFO, WEIGHTS, Bundle, make_bundle, read_bundle, read_info, write_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.pin import ModelPin
from cxrgaze_ray.registry.versions import CHAMPION, Registry, pin_bundle, pin_model
from cxrgaze_ray.storage import LocalStore

NAME = "net"


def fresh(seed: int) -> Bundle:
    return make_bundle(build(PRESETS["tiny"], seed), NAME, trained=seed % 2 == 1)


@pytest.fixture(scope="module")
def bundles() -> tuple[Bundle, ...]:
    return tuple(fresh(seed) for seed in range(3))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(LocalStore(str(tmp_path / "registry")))


@pytest.fixture
def pins(registry: Registry, bundles: tuple[Bundle, ...]) -> list[ModelPin]:
    """Publish three versions."""
    return [registry.publish(bundle, f"number {number}") for number, bundle in enumerate(bundles)]


def actions(registry: Registry) -> list[tuple[str, str | None, str | None]]:
    return [(entry.action, entry.version, entry.alias) for entry in registry.history(NAME)]


def test_versions_are_counted_and_pinned(registry: Registry, pins: list[ModelPin], bundles: tuple[Bundle, ...]) -> None:
    assert [pin.version for pin in pins] == ["v0001", "v0002", "v0003"]
    assert [pin.trained for pin in pins] == [False, True, False]
    for pin, bundle in zip(pins, bundles, strict=True):
        assert (pin.name, pin.weights_sha256) == (NAME, bundle.info.weights_sha256)
        found = read_bundle(LocalStore(pin.uri))
        assert found.info.model_copy(update={"ledger_head": ""}) == bundle.info
        assert torch.equal(found.state["classifier.out.bias"], bundle.state["classifier.out.bias"])


def test_the_ledger_says_what_was_done_and_why(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v2", reason="better on site B")
    registry.promote(NAME, "v3", alias="canary", note="untrained")
    registry.promote(NAME, "v1", reason="to compare", note="untrained")
    registry.rollback(NAME, reason="worse after all")
    assert actions(registry) == [
        ("publish", "v0001", None),
        ("publish", "v0002", None),
        ("publish", "v0003", None),
        ("promote", "v0002", "champion"),
        ("promote", "v0003", "canary"),
        ("promote", "v0001", "champion"),
        ("rollback", "v0002", "champion"),
    ]
    history = registry.history(NAME)
    assert [entry.number for entry in history] == list(range(7))
    assert [history[place].reason for place in (0, 3, 4, 5, 6)] == [
        "number 0", "better on site B", "untrained", "to compare", "worse after all",
    ]  # fmt: skip
    assert history[3].weights_sha256 == pins[1].weights_sha256
    assert registry.aliases(NAME) == {"champion": "v0002", "canary": "v0003"}


def test_every_kind_of_reference_resolves_to_the_same_pin(registry: Registry, pins: list[ModelPin]) -> None:
    promoted = registry.promote(NAME, "v2")
    assert promoted == pins[1]
    for reference in (f"{NAME}@champion", f"{NAME}@v2", f"{NAME}@v0002", f"{NAME}@v02"):
        assert registry.resolve(reference) == pins[1]
    assert pin_model(registry.store.uri, f"{NAME}@champion") == pins[1]


def test_a_bundle_resolves_by_its_uri_too(registry: Registry, pins: list[ModelPin]) -> None:
    pin = registry.resolve(pins[1].uri)
    assert (pin.uri, pin.name, pin.trained) == (pins[1].uri, NAME, True)
    assert pin.weights_sha256 == pins[1].weights_sha256
    assert pin.version == pins[1].weights_sha256[:12]


def test_a_bundle_folder_may_have_an_at_in_its_path(tmp_path: Path, bundles: tuple[Bundle, ...]) -> None:
    write_bundle(LocalStore(str(tmp_path / "me@home")), bundles[0])
    assert pin_model(str(tmp_path / "none"), f"{tmp_path}/me@home").weights_sha256 == bundles[0].info.weights_sha256


def test_a_pin_stays_where_it_is_when_the_alias_moves(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v1")
    pin = registry.resolve(f"{NAME}@champion")
    registry.promote(NAME, "v2")
    assert registry.resolve(f"{NAME}@champion") == pins[1]
    assert read_info(LocalStore(pin.uri)).weights_sha256 == pins[0].weights_sha256


def test_names_are_kept_apart(registry: Registry, bundles: tuple[Bundle, ...]) -> None:
    other = Bundle(bundles[1].info.model_copy(update={"name": "net-2"}), bundles[1].state)
    registry.publish(bundles[0])
    assert registry.publish(other).version == "v0001"
    registry.promote("net-2", "v1")
    assert registry.models() == ("net", "net-2")
    assert registry.aliases("net") == {}
    assert len(registry.history("net")) == 1


def test_an_alias_can_be_promoted_from_another(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v3", alias="canary")
    registry.promote(NAME, "canary")
    assert registry.aliases(NAME) == {"canary": "v0003", "champion": "v0003"}


def test_rollbacks_go_back_one_by_one_and_stop(registry: Registry, pins: list[ModelPin]) -> None:
    for version in ("v1", "v2", "v3"):
        registry.promote(NAME, version, reason="why not")
    assert registry.rollback(NAME) == pins[1]
    assert registry.rollback(NAME) == pins[0]
    with pytest.raises(RegistryError, match=r"net@champion has no earlier version.*Promote one"):
        registry.rollback(NAME)
    assert registry.resolve(f"{NAME}@champion") == pins[0]
    assert len(registry.history(NAME)) == 8


def test_a_promotion_after_a_rollback_goes_back_to_where_that_left(registry: Registry, pins: list[ModelPin]) -> None:
    for version in ("v1", "v2"):
        registry.promote(NAME, version)
    registry.rollback(NAME)
    registry.promote(NAME, "v3")
    assert registry.rollback(NAME).version == "v0001"


def test_a_rollback_undoes_a_promotion_that_was_repeated(registry: Registry, pins: list[ModelPin]) -> None:
    for version in ("v1", "v2", "v2"):
        registry.promote(NAME, version)
    assert registry.rollback(NAME).version == "v0001"


def test_a_rollback_moves_its_own_alias_only(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v1")
    registry.promote(NAME, "v2")
    registry.promote(NAME, "v3", alias="canary")
    registry.promote(NAME, "v1", alias="canary")
    registry.rollback(NAME, alias="canary")
    assert registry.aliases(NAME) == {"champion": "v0002", "canary": "v0003"}


@pytest.mark.parametrize("alias", ["champion", "unknown"])
def test_nothing_to_roll_back_to(registry: Registry, pins: list[ModelPin], alias: str) -> None:
    registry.promote(NAME, "v1")
    told = "no earlier version to go back to" if alias == "champion" else r"no alias unknown\. Its aliases: champion\."
    with pytest.raises(RegistryError, match=told):
        registry.rollback(NAME, alias)
    assert len(registry.history(NAME)) == 4


class _Racing(LocalStore):
    """Holds whoever writes an entry until the other one has decided, too."""

    def __init__(self, uri: str, start: Barrier) -> None:
        super().__init__(uri)
        self._start, self._held = start, False

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if "/ledger/" in key and not self._held:
            self._held = True
            self._start.wait(timeout=60)
        return super().put_if_absent(key, data)

    def child(self, key: str) -> LocalStore:
        return LocalStore(self.locate(key))


Move = Callable[[Registry], object]


def race(registry: Registry, *moves: Move) -> list[object]:
    """Have each move decide on the ledger as it is now; return what each ended with."""
    start = Barrier(len(moves))

    def work(move: Move) -> object:
        try:
            return move(Registry(_Racing(registry.store.uri, start)))
        except PromotionConflict as conflict:
            return conflict

    with ThreadPoolExecutor(len(moves)) as pool:
        return list(pool.map(work, moves))


RACES: dict[str, tuple[Move, Move]] = {
    "two promoters": (
        lambda registry: registry.promote(NAME, "v3", reason="why not", who="ann"),
        lambda registry: registry.promote(NAME, "v1", reason="why not", who="bob"),
    ),
    "two who promote the same": (
        lambda registry: registry.promote(NAME, "v3", reason="why not", who="ann"),
        lambda registry: registry.promote(NAME, "v3", reason="why not", who="bob"),
    ),
    "two rollbacks": (lambda registry: registry.rollback(NAME), lambda registry: registry.rollback(NAME)),
    "one of each": (
        lambda registry: registry.promote(NAME, "v3", reason="why not"),
        lambda registry: registry.rollback(NAME),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", RACES)
def test_of_two_who_move_an_alias_at_once_one_wins_and_the_other_is_told(
    registry: Registry, pins: list[ModelPin], kind: str
) -> None:
    for version in ("v1", "v2"):
        registry.promote(NAME, version)
    ended = race(registry, *RACES[kind])
    (won,) = (one for one in ended if isinstance(one, ModelPin))
    (told,) = (one for one in ended if isinstance(one, PromotionConflict))
    last = registry.history(NAME)[-1]
    assert (last.version, len(registry.history(NAME))) == (won.version, 6)
    assert f"{NAME}@champion was moved to {won.version} just now by {last.who}" in str(told)
    assert registry.resolve("net@champion") == won


def test_a_publication_a_look_or_another_alias_does_not_disturb_a_promotion(
    registry: Registry, pins: list[ModelPin], bundles: tuple[Bundle, ...]
) -> None:
    ended = race(
        registry,
        lambda registry: registry.promote(NAME, "v1"),
        lambda registry: registry.promote(NAME, "v2", alias="canary"),
        lambda registry: registry.look(NAME, pins[0].weights_sha256, ["s"], version="v1"),
        lambda registry: registry.record_gate(NAME, "v2", "accepted", "gates/a.json", "-"),
    )
    assert not [one for one in ended if isinstance(one, PromotionConflict)]
    assert registry.aliases(NAME) == {"champion": "v0001", "canary": "v0002"}
    assert len(registry.history(NAME)) == 7


def test_an_alias_is_moved_only_from_where_it_was_seen(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v1", expected=None)
    registry.promote(NAME, "v2", expected="v1")
    before = registry.head(NAME)
    with pytest.raises(PromotionConflict, match=r"net@champion stands for v0002, not for v1.*Look again"):
        registry.promote(NAME, "v3", expected="v1")
    with pytest.raises(PromotionConflict, match="stands for v0002, not for nothing"):
        registry.promote(NAME, "v3", expected=None)
    with pytest.raises(PromotionConflict, match="net@canary stands for nothing, not for v0002"):
        registry.promote(NAME, "v3", alias="canary", expected="v0002")
    assert registry.head(NAME) == before
    assert registry.promote(NAME, "v3", reason="why not", expected="v0002") == pins[2]


def test_entries_say_who(registry: Registry, bundles: tuple[Bundle, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXRGAZE_WHO", "the night job")
    registry.publish(bundles[0])
    registry.publish(bundles[1], who="ann")
    registry.look(NAME, bundles[1].info.weights_sha256, ["s"], "to gate it", who="bob", version="v2")
    registry.record_gate(NAME, "v2", "accepted", "gates/v0002.json", "-", who="cid")
    registry.promote(NAME, "v1", who="dan")
    registry.promote(NAME, "v2", who="eve")
    registry.rollback(NAME, who="fay")
    whos = ["the night job", "ann", "bob", "cid", "dan", "eve", "fay"]
    assert [entry.who for entry in registry.history(NAME)] == whos


def test_a_bundle_carries_the_head_it_was_published_after(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v1")
    head = registry.head(NAME)
    pin = registry.publish(fresh(5))
    history = registry.history(NAME)
    assert read_info(LocalStore(pin.uri)).ledger_head == head == history[-1].previous_sha256
    assert read_info(LocalStore(pins[0].uri)).ledger_head == ""
    assert history[-1].bundle_sha256 == hashlib.sha256(LocalStore(pin.uri).get(INFO)).hexdigest()


def test_looks_count_distinct_weights_of_the_store_seen_most(registry: Registry, pins: list[ModelPin]) -> None:
    assert registry.look(NAME, "w1", ["old"], "to gate it")
    assert registry.look(NAME, "w2", ["old", "new", "old"])
    assert not registry.look(NAME, "w2", ["new"])
    assert not registry.look(NAME, "w2", ["new", "old"])
    assert registry.look(NAME, "w1", ["new", "old"])
    assert registry.look(NAME, "w3", ["new"], version="v3")
    assert (registry.looks(NAME, ["old"]), registry.looks(NAME, ["new"])) == (2, 3)
    assert (registry.looks(NAME, ["old", "new", "third"]), registry.looks(NAME, ["third"])) == (3, 0)
    assert registry.looks("never", ["old"]) == 0
    looks = [entry for entry in registry.history(NAME) if entry.action == "look"]
    assert [(entry.version, entry.stores) for entry in looks] == [
        (None, ("old",)), (None, ("old", "new")), (None, ("new", "old")), ("v0003", ("new",)),
    ]  # fmt: skip


def test_the_same_look_twice_at_once_is_entered_once(registry: Registry, pins: list[ModelPin]) -> None:
    ended = race(registry, *[lambda registry: registry.look(NAME, "w", ["s"])] * 3)
    assert sorted(map(bool, ended)) == [False, False, True]
    assert registry.looks(NAME, ["s"]) == 1


@pytest.mark.parametrize("outcome", ["rejected", "cannot_tell"])
def test_what_the_gate_did_not_accept_is_promoted_only_with_a_reason(
    registry: Registry, pins: list[ModelPin], outcome: str
) -> None:
    registry.record_gate(NAME, "v2", "accepted", "gates/1.json", "-")
    registry.promote(NAME, "v2")
    registry.record_gate(NAME, "v2", outcome, "gates/2.json", "-")
    says = rf"gate did not accept net@v0002: {outcome.replace('_', ' ')}.*--reason"
    for reason in ("", "  "):
        with pytest.raises(RegistryError, match=says):
            registry.promote(NAME, "v2", "canary", reason)
    assert registry.aliases(NAME) == {"champion": "v0002"}
    skipped: list[str] = []
    assert registry.promote(NAME, "v2", "canary", "the board decided so", say=skipped.append) == pins[1]
    assert [one.split(":")[0] for one in skipped] == ["The gate did not accept net@v0002"]
    assert registry.promote(NAME, "v1", reason="back to the start") == pins[0]
    registry.record_gate(NAME, "v2", "accepted", "gates/3.json", "-")
    assert registry.promote(NAME, "v2") == pins[1]


def refused(registry: Registry, version: str, alias: str = CHAMPION) -> str:
    """Return why a promotion without a reason is refused, and see that one with a reason says the same."""
    head = registry.head(NAME)
    with pytest.raises(RegistryError) as error:
        registry.promote(NAME, version, alias, note="excuses nothing")
    assert registry.head(NAME) == head
    assert error.value.hint == "To promote it all the same, say why with --reason."
    told: list[str] = []
    registry.promote(NAME, version, alias, "the board decided so", say=told.append)
    assert told == [error.value.message]
    assert registry.history(NAME)[-1].reason == "the board decided so"
    return error.value.message


def test_of_less_known_than_the_champion_is_promoted_only_with_a_reason(
    registry: Registry, pins: list[ModelPin]
) -> None:
    registry.publish(fresh(5))
    for version in ("v1", "v3"):  # untrained in place of nothing, and of untrained
        registry.promote(NAME, version)
    registry.promote(NAME, "v2")  # trained in place of untrained
    registry.promote(NAME, "v4")  # neither was judged
    assert refused(registry, "v1") == "net@v0001 is untrained, and takes the place of v0004, which is trained."
    registry.record_gate(NAME, "v2", "accepted", "gates/1.json", "-")
    registry.promote(NAME, "v2")
    judged = "and takes the place of v0002, which a gate judged."
    assert refused(registry, "v4") == f"net@v0004 was judged by no gate, {judged}"
    registry.promote(NAME, "v2")
    assert refused(registry, "v1") == f"net@v0001 is untrained, {judged}"


def test_a_champion_promoted_against_the_gate_was_judged_all_the_same(registry: Registry, pins: list[ModelPin]) -> None:
    registry.record_gate(NAME, "v2", "cannot_tell", "gates/1.json", "-")
    registry.promote(NAME, "v2", reason="the board decided so")
    registry.publish(fresh(5))
    assert "v0002, which a gate judged" in refused(registry, "v4")
    assert registry.promote(NAME, "v4", "canary").version == "v0004", "that alias stands for nothing"


def test_a_champion_whose_bundle_is_gone_is_replaced_without_ado(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v2")
    LocalStore(pins[1].uri).delete(INFO)
    registry.promote(NAME, "v1")
    assert registry.aliases(NAME) == {"champion": "v0001"}


def test_a_successor_is_checked_before_it_is_made(registry: Registry, pins: list[ModelPin]) -> None:
    registry.check_successor("new", trained=False)
    registry.check_successor(NAME, trained=False)
    registry.promote(NAME, "v2")
    registry.check_successor(NAME, trained=True)
    with pytest.raises(RegistryError, match=r"A new version of net is untrained.*--reason.*promote nothing"):
        registry.check_successor(NAME, " ", trained=False)
    registry.check_successor(NAME, "a test", trained=False)
    registry.record_gate(NAME, "v2", "accepted", "gates/1.json", "-")
    with pytest.raises(RegistryError, match=r"A new version of net was judged by no gate, .*place of v0002"):
        registry.check_successor(NAME, trained=True)


def test_a_rejection_that_comes_in_between_is_heeded(registry: Registry, pins: list[ModelPin]) -> None:
    class Late(LocalStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            if key.endswith("00000003.json"):
                registry.record_gate(NAME, "v2", "rejected", "gates/1.json", "-")
            return super().put_if_absent(key, data)

    with pytest.raises(RegistryError, match="did not accept"):
        Registry(Late(registry.store.uri)).promote(NAME, "v2")
    assert registry.aliases(NAME) == {}


def test_only_what_was_published_is_gated(registry: Registry, pins: list[ModelPin]) -> None:
    with pytest.raises(RegistryError, match="no version v0009"):
        registry.record_gate(NAME, "v9", "accepted", "gates/1.json", "-")
    registry.record_gate(NAME, "v2", "rejected", "gates/1.json", "abc", "worse")
    last = registry.history(NAME)[-1]
    assert (last.version, last.weights_sha256, last.outcome) == ("v0002", pins[1].weights_sha256, "rejected")
    assert (last.evidence, last.evidence_sha256, last.reason) == ("gates/1.json", "abc", "worse")


def test_looks_and_gates_move_no_alias(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v1")
    registry.look(NAME, "w", ["s"])
    registry.record_gate(NAME, "v2", "accepted", "gates/1.json", "-")
    assert registry.aliases(NAME) == {"champion": "v0001"}
    with pytest.raises(RegistryError, match="no version v0004"):
        registry.resolve("net@v4")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("other@champion", r"no model other in .*registry\. The models there are net\."),
        ("net@v9", r"net has no version v0009\. See `cxrgaze models show net`"),
        ("net@canary", r"no alias canary\. It has v0001, v0002, v0003\."),
        ("net@", "no alias"),
        ("net@v0", "no alias v0"),
        ("net@V1", "no alias V1"),
        ("net", "There is no bundle at net.*name@champion"),
        ("/nowhere/at/all", "There is no bundle at /nowhere/at/all"),
        ("NET@v1", "is made of a-z"),
    ],
)
def test_an_unknown_reference_says_what_to_do(
    registry: Registry, pins: list[ModelPin], reference: str, says: str
) -> None:
    with pytest.raises(RegistryError, match=says):
        registry.resolve(reference)


def test_a_registry_that_is_not_there_yet_is_empty(registry: Registry) -> None:
    assert registry.models() == ()
    assert registry.aliases(NAME) == {}
    with pytest.raises(RegistryError, match="There is no model net"):
        registry.resolve("net@champion")
    with pytest.raises(RegistryError, match="There is no model net"):
        registry.promote(NAME, "v1")
    with pytest.raises(RegistryError, match="no alias champion"):
        registry.rollback(NAME)
    assert not Path(registry.store.uri).exists()


@pytest.mark.parametrize("name", ["", "Net", "net_1", "-net", "../net", "net/a", "net@v1", "net\n", "n" * 64, "nét"])
def test_bad_names_are_refused(registry: Registry, bundles: tuple[Bundle, ...], name: str) -> None:
    bundle = Bundle(bundles[0].info.model_copy(update={"name": name}), bundles[0].state)
    with pytest.raises(UserError, match="is made of a-z, 0-9 and -"):
        registry.publish(bundle)
    assert not Path(registry.store.uri).exists()


@pytest.mark.parametrize("alias", ["", "Champion", "a b", "a/b", "v1", "v0003", "v17"])
def test_bad_aliases_are_refused(registry: Registry, pins: list[ModelPin], alias: str) -> None:
    with pytest.raises(RegistryError):
        registry.promote(NAME, "v1", alias)
    assert registry.aliases(NAME) == {}


def test_the_longest_name_is_fine(registry: Registry, bundles: tuple[Bundle, ...]) -> None:
    name = "0" + "n" * 62
    registry.publish(Bundle(bundles[0].info.model_copy(update={"name": name}), bundles[0].state))
    assert registry.models() == (name,)


def test_a_version_that_was_never_entered_does_not_exist(registry: Registry, bundles: tuple[Bundle, ...]) -> None:
    class Stopping(LocalStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            if "/ledger/" in key:
                raise StoreUnavailable("The disk is full.")
            return super().put_if_absent(key, data)

    with pytest.raises(StoreUnavailable):
        Registry(Stopping(registry.store.uri)).publish(bundles[0])
    with pytest.raises(RegistryError, match="no model net"):
        registry.resolve("net@v1")
    assert registry.models() == ()
    assert registry.publish(bundles[1]).version == "v0002"
    with pytest.raises(RegistryError, match="no version v0001"):
        registry.resolve("net@v1")


def test_a_lost_answer_does_not_enter_twice(tmp_path: Path, bundles: tuple[Bundle, ...]) -> None:
    class Lossy(LocalStore):
        def put_if_absent(self, key: str, data: bytes) -> bool:
            # as S3 says when a client's retry meets its own first try
            lost = self.locate(key).endswith(("v0001/claim", "00000000.json"))
            return super().put_if_absent(key, data) and not lost

        def child(self, key: str) -> LocalStore:
            return Lossy(self.locate(key))

    registry = Registry(Lossy(str(tmp_path)))
    assert registry.publish(bundles[0]).version == "v0001"
    registry.promote(NAME, "v1")
    assert actions(registry) == [("publish", "v0001", None), ("promote", "v0001", "champion")]


def test_publishing_and_promoting_at_once_loses_nothing(registry: Registry, bundles: tuple[Bundle, ...]) -> None:
    threads, rounds = 6, 2
    start = Barrier(threads)

    def work(number: int) -> list[ModelPin]:
        own, made = Registry(LocalStore(registry.store.uri)), []
        start.wait(timeout=60)
        for _ in range(rounds):
            made.append(own.publish(bundles[number % 3], f"by {number}"))
            own.promote(NAME, made[-1].version, alias=f"of-{number}")
        return made

    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(work, range(threads)))
    versions = [pin.version for pins in made for pin in pins]
    assert sorted(versions) == [f"v{number:04d}" for number in range(1, threads * rounds + 1)]
    history = registry.history(NAME)
    assert [entry.number for entry in history] == list(range(2 * threads * rounds))
    assert sorted(entry.version or "" for entry in history if entry.action == "publish") == sorted(versions)
    assert registry.aliases(NAME) == {f"of-{number}": pins[-1].version for number, pins in enumerate(made)}
    for number, pins in enumerate(made):
        for pin in pins:
            assert read_bundle(LocalStore(pin.uri)).info.weights_sha256 == bundles[number % 3].info.weights_sha256


def entry_path(registry: Registry, number: int) -> Path:
    return Path(registry.store.uri) / NAME / "ledger" / f"{number:08d}.json"


def _reword(path: Path) -> None:
    path.write_text(path.read_text().replace("number", "another"))


def _respace(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text())))


@pytest.mark.parametrize("change", [_reword, _respace, Path.unlink], ids=["reworded", "respaced", "deleted"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_changed_ledger_is_found(
    registry: Registry, pins: list[ModelPin], change: Callable[[Path], None], number: int
) -> None:
    change(entry_path(registry, number))
    with pytest.raises(RegistryError, match=r"ledger of net is broken at entry [012].*Restore it"):
        registry.history(NAME)
    with pytest.raises(RegistryError, match="broken"):
        registry.resolve("net@v3")
    with pytest.raises(RegistryError, match="broken"):
        registry.promote(NAME, "v3")
    with pytest.raises(RegistryError, match="broken"):
        registry.models()


@pytest.mark.parametrize("data", [b"", b"{}", b"half an ent", b'{"number": 2, "surprise": 1}'])
def test_a_malformed_last_entry_is_found(registry: Registry, pins: list[ModelPin], data: bytes) -> None:
    entry_path(registry, 2).write_bytes(data)
    with pytest.raises(RegistryError, match="broken at entry 2"):
        registry.history(NAME)


def test_an_entry_put_in_between_is_found(registry: Registry, pins: list[ModelPin]) -> None:
    entry_path(registry, 3).write_bytes(entry_path(registry, 2).read_bytes())
    with pytest.raises(RegistryError, match="broken at entry 3"):
        registry.history(NAME)


def test_bundles_outlive_a_broken_ledger(registry: Registry, pins: list[ModelPin]) -> None:
    entry_path(registry, 0).unlink()
    assert registry.resolve(pins[2].uri).weights_sha256 == pins[2].weights_sha256


def test_a_tampered_bundle_is_not_promoted(registry: Registry, pins: list[ModelPin]) -> None:
    store = LocalStore(pins[1].uri)
    weights = bytearray(store.get(WEIGHTS))
    weights[-1] ^= 1
    store.put(WEIGHTS, bytes(weights))
    with pytest.raises(BundleError, match="do not match their hash"):
        registry.promote(NAME, "v2")
    assert registry.aliases(NAME) == {}


def test_a_bundle_that_was_replaced_whole_is_found(registry: Registry, pins: list[ModelPin]) -> None:
    registry.promote(NAME, "v1")
    registry.promote(NAME, "v2")
    write_bundle(LocalStore(pins[0].uri), fresh(7))
    replaced = re.escape("net@v0001 does not hold the weights that were published")
    with pytest.raises(RegistryError, match=replaced):
        registry.resolve("net@v1")
    with pytest.raises(RegistryError, match=replaced):
        registry.promote(NAME, "v1")
    with pytest.raises(RegistryError, match=replaced):
        registry.rollback(NAME)
    assert registry.resolve("net@champion") == pins[1]


@pytest.mark.parametrize(
    ("old", "new"), [(b'"temperature": 1.0', b'"temperature": 0.1'), (b'"metrics": {}', b'"metrics":{}')]
)
def test_a_bundle_json_that_was_edited_is_found(
    registry: Registry, pins: list[ModelPin], old: bytes, new: bytes
) -> None:
    store = LocalStore(pins[1].uri)
    assert old in store.get(INFO)
    store.put(INFO, store.get(INFO).replace(old, new))
    edited = r"net@v0002 is not as it was published: its bundle\.json was edited"
    with pytest.raises(RegistryError, match=edited):
        registry.resolve("net@v2")
    with pytest.raises(RegistryError, match=edited):
        registry.promote(NAME, "v2")
    assert registry.resolve("net@v1") == pins[0]


def test_a_version_whose_bundle_is_gone_is_named(registry: Registry, pins: list[ModelPin]) -> None:
    LocalStore(pins[0].uri).delete(INFO)
    with pytest.raises(BundleError, match=f"There is no bundle at {pins[0].uri}"):
        registry.resolve("net@v1")


def test_pinning_reads_no_weights(registry: Registry, pins: list[ModelPin]) -> None:
    LocalStore(pins[0].uri).delete(WEIGHTS)
    assert pin_bundle(pins[0].uri).weights_sha256 == pins[0].weights_sha256
