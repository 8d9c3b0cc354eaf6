"""A model's ledger and bundles prove themselves untouched, or say what is not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxrgaze_ray.errors import RegistryError, StoreUnavailable
from cxrgaze_ray.models.bundle import INFO, WEIGHTS, Bundle, make_bundle, read_bundle, write_bundle
from cxrgaze_ray.models.gazenet import PRESETS
from cxrgaze_ray.models.zoo import build
from cxrgaze_ray.registry.audit import verify_registry
from cxrgaze_ray.registry.ledger.audit import AuditFinding
from cxrgaze_ray.registry.versions import Registry
from cxrgaze_ray.storage import LocalStore

NAME = "net"
REPORT = "gates/v0002.json"
TEXT = b'{"outcome": "accepted"}'


@pytest.fixture(scope="module")
def bundles() -> tuple[Bundle, ...]:
    return tuple(make_bundle(build(PRESETS["tiny"], seed), NAME, trained=True) for seed in range(3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, bundles: tuple[Bundle, ...]) -> Path:
    """Seven entries: publish 1, promote, publish 2, look, gate, promote, publish 3."""
    folder = tmp_path_factory.mktemp("whole")
    registry = Registry(LocalStore(str(folder)))
    registry.publish(bundles[0], "first")
    registry.promote(NAME, "v1", reason="the only one")
    registry.publish(bundles[1], "second")
    registry.look(NAME, bundles[1].info.weights_sha256, ["store"], version="v2")
    registry.store.put(f"{NAME}/{REPORT}", TEXT)
    registry.record_gate(NAME, "v2", "accepted", REPORT, hashlib.sha256(TEXT).hexdigest())
    registry.promote(NAME, "v2", reason="better")
    registry.publish(bundles[2], "third")
    return folder


@pytest.fixture
def registry(tmp_path: Path, whole: Path) -> Registry:
    shutil.copytree(whole, tmp_path / "registry")
    return Registry(LocalStore(str(tmp_path / "registry")))


def entry(number: int) -> str:
    return f"{NAME}/ledger/{number:08d}.json"


def bundle(version: int, file: str = INFO) -> str:
    return f"{NAME}/versions/v{version:04d}/{file}"


Damage = Callable[[Registry], None]


def edit(key: str, old: bytes, new: bytes) -> Damage:
    def damage(registry: Registry) -> None:
        data = registry.store.get(key)
        assert old in data
        registry.store.put(key, data.replace(old, new))

    return damage


def put(key: str, data: bytes) -> Damage:
    return lambda registry: registry.store.put(key, data)


def delete(*keys: str) -> Damage:
    def damage(registry: Registry) -> None:
        for key in keys:
            registry.store.delete(key)

    return damage


def swap(one: str, other: str) -> Damage:
    def damage(registry: Registry) -> None:
        first, second = registry.store.get(one), registry.store.get(other)
        registry.store.put(one, second)
        registry.store.put(other, first)

    return damage


def move(old: str, new: str) -> Damage:
    def damage(registry: Registry) -> None:
        registry.store.put(new, registry.store.get(old))
        registry.store.delete(old)

    return damage


def close_the_gap(registry: Registry) -> None:
    """Remove entry 3, and give its number to the next ones."""
    for number in range(3, 6):
        registry.store.put(entry(number), registry.store.get(entry(number + 1)))
    registry.store.delete(entry(6))


def rechain(registry: Registry, first: int, **values: Any) -> None:
    """Rewrite an entry, and the ones after it so that the chain is whole again, as a careful forger would."""
    count = len(registry.history(NAME))
    for number in range(first, count):
        before = hashlib.sha256(registry.store.get(entry(number - 1))).hexdigest() if number else ""
        changed = json.loads(registry.store.get(entry(number))) | {"previous_sha256": before}
        changed |= values if number == first else {}
        registry.store.put(entry(number), json.dumps(changed).encode())


def forge(number: int, **values: Any) -> Damage:
    return lambda registry: rechain(registry, number, **values)


def unentered(registry: Registry) -> None:
    """Write a bundle that no entry publishes."""
    write_bundle(LocalStore(registry.store.locate(f"{NAME}/versions/v0004")), read_bundle(version_store(registry, 1)))


def version_store(registry: Registry, version: int) -> LocalStore:
    return LocalStore(registry.store.locate(f"{NAME}/versions/v{version:04d}"))


def other_weights(registry: Registry) -> None:
    write_bundle(version_store(registry, 1), read_bundle(version_store(registry, 2)))


CUT = "which the ledger lacks before it"
DAMAGES: dict[str, tuple[Damage, str, str]] = {
    "a reason is edited": (edit(entry(1), b"the only one", b"the best one"), entry(1), "edited or replaced"),
    "spaces are edited": (edit(entry(3), b"\n", b""), entry(3), "edited or replaced"),
    "a date is edited": (edit(entry(0), b'"at": "20', b'"at": "19'), entry(0), "edited or replaced"),
    "an entry is cut short": (edit(entry(2), b"}", b""), entry(2), "can't be read"),
    "an entry is empty": (put(entry(2), b""), entry(2), "can't be read"),
    "an entry has a surprise": (put(entry(6), b'{"number": 6, "surprise": 1}'), entry(6), "can't be read"),
    "the first entry is removed": (delete(entry(0)), entry(0), "Entry 0 is missing"),
    "an entry is removed": (delete(entry(3)), entry(3), "Entry 3 is missing"),
    "two entries are removed": (delete(entry(3), entry(4)), entry(4), "Entry 4 is missing"),
    "a removal is closed up": (close_the_gap, entry(3), "file of entry 3 holds entry 4"),
    "entries are swapped": (swap(entry(1), entry(2)), entry(1), "file of entry 1 holds entry 2"),
    "the last two are swapped": (swap(entry(5), entry(6)), entry(6), "file of entry 6 holds entry 5"),
    "an entry is renamed": (move(entry(6), entry(9)), entry(9), "file of entry 9 holds entry 6"),
    "an entry is doubled": (lambda r: r.store.put(entry(7), r.store.get(entry(6))), entry(7), "entry 7 holds entry 6"),
    "a stray file": (put(f"{NAME}/ledger/notes.txt", b"x"), f"{NAME}/ledger/notes.txt", "stray"),
    "the tail is cut before a publication": (delete(entry(4), entry(5), entry(6)), bundle(3), CUT),
    "a publication is cut": (delete(entry(6)), bundle(3), "No entry publishes this bundle"),
    "the whole ledger is removed": (delete(*map(entry, range(7))), bundle(2), CUT),
    "an early entry is forged": (forge(1, reason="the best one"), bundle(3), CUT),
    "the first entry follows one": (forge(0, previous_sha256="ab"), entry(0), "follows another, which is gone"),
    "a bundle is recalibrated": (edit(bundle(1), b'"temperature": 1.0', b'"temperature": 2.0'), bundle(1), "edited"),
    "metrics are edited": (edit(bundle(2), b'"metrics": {}', b'"metrics": {"auc": 1}'), bundle(2), "edited after"),
    "a carried head is edited": (edit(bundle(2), b'"ledger_head": "', b'"ledger_head": "f'), bundle(2), CUT),
    "a bundle.json is removed": (delete(bundle(1)), bundle(1), "is gone or can't be read"),
    "a bundle.json is cut": (put(bundle(1), b"{"), bundle(1), "is gone or can't be read"),
    "weights are edited": (edit(bundle(2, WEIGHTS), b"F32", b"I32"), bundle(2, WEIGHTS), "not those that were"),
    "weights are removed": (delete(bundle(2, WEIGHTS)), bundle(2, WEIGHTS), "are gone"),
    "a bundle is replaced whole": (other_weights, bundle(1), "other weights than those published as v0001"),
    "a version was never entered": (unentered, bundle(4), "No entry publishes this bundle"),
    "a version is gone": (delete(bundle(1), bundle(1, WEIGHTS), bundle(1, "claim")), bundle(1), "is gone"),
    "an alias names what is not there": (forge(5, version="v0009"), entry(5), "stand for v0009, which was not"),
    "an alias names what comes later": (forge(1, version="v0003"), entry(1), "v0003, which was not published before"),
    "an alias names other weights": (forge(5, weights_sha256="ab"), entry(5), "other weights than those published"),
    "an alias has no name": (forge(5, alias=None), entry(5), "a promote without an alias"),
    "a gate names what is not there": (forge(4, version="v0009"), entry(4), "a statement about v0009"),
    "a version is published twice": (forge(6, version="v0001"), entry(6), "which was published before"),
    "a version has no version's name": (forge(6, version="../x"), entry(6), "not named as a version"),
    "a report is edited": (put(f"{NAME}/{REPORT}", b"{}"), f"{NAME}/{REPORT}", "report on v0002 (entry 4) was edited"),
    "a report is removed": (delete(f"{NAME}/{REPORT}"), f"{NAME}/{REPORT}", "is missing"),
    "a report lies elsewhere": (forge(4, evidence="../../x"), f"{NAME}/../../x", "is missing"),
}  # fmt: skip


def faults(registry: Registry, head: str | None = None) -> list[AuditFinding]:
    return [one for one in verify_registry(registry, NAME, head) if not one.note]


def test_an_untouched_registry_is_sound(registry: Registry) -> None:
    told: list[tuple[int, int]] = []
    assert verify_registry(registry, NAME, on_progress=lambda done, total: told.append((done, total))) == []
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(name: str, registry: Registry) -> None:
    damage, file, what = DAMAGES[name]
    head = registry.head(NAME)
    damage(registry)
    found = faults(registry)
    assert any(one.file == file and what in one.what and one.mend for one in found), found
    assert {one.what for one in faults(registry, head)} >= {one.what for one in found}


def test_a_cut_tail_is_found_by_a_head_that_was_kept(registry: Registry) -> None:
    registry.promote(NAME, "v3", reason="regretted")
    head = registry.head(NAME)
    registry.store.delete(entry(7))
    assert verify_registry(registry, NAME) == []
    (found,) = faults(registry, head)
    assert (found.file, f"No entry has the hash {head[:12]}" in found.what) == (entry(7), True)


def test_an_edited_last_entry_is_found_by_a_head_that_was_kept(registry: Registry) -> None:
    registry.promote(NAME, "v3", reason="regretted")
    head = registry.head(NAME)
    edit(entry(7), b"regretted", b"applauded")(registry)
    assert verify_registry(registry, NAME) == []
    assert ["rewritten" in one.what for one in faults(registry, head)] == [True]


def test_what_was_read_before_hides_nothing(registry: Registry) -> None:
    registry.head(NAME)
    path = Path(registry.store.uri) / entry(5)
    data, stat = path.read_bytes(), path.stat()
    path.write_bytes(data.replace(b"better", b"bitter"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # of the same size and date: whoever polls sees no change
    assert entry(5) in {one.file for one in faults(registry)}
    path.unlink()
    assert entry(5) in {one.file for one in faults(registry)}
    path.write_bytes(data)
    assert faults(registry) == []


def test_a_head_holds_however_the_ledger_grows(registry: Registry) -> None:
    heads = []
    for version in ("v1", "v2", "v3"):
        registry.promote(NAME, version, reason="why not")
        heads.append(registry.head(NAME))
    assert [verify_registry(registry, NAME, head) for head in heads] == [[], [], []]


@pytest.mark.parametrize("head", ["", "ab", "g" * 64, "a" * 65])
def test_a_head_that_is_no_hash_is_refused(registry: Registry, head: str) -> None:
    with pytest.raises(RegistryError, match="64 hexadecimal digits"):
        verify_registry(registry, NAME, head)


def test_clocks_that_disagree_are_only_noted(registry: Registry) -> None:
    registry.promote(NAME, "v3", reason="why not")
    rechain(registry, 7, at="2001-01-01T00:00:00+00:00")
    (found,) = verify_registry(registry, NAME)
    assert (found.note, found.file) == (True, entry(7))
    assert "dated 2001-01-01T00:00:00+00:00, before entry 6: the writers' clocks disagree" in found.what
    rechain(registry, 7, at="the day after")
    assert verify_registry(registry, NAME) == []


def test_a_version_that_was_begun_and_given_up_is_only_noted(registry: Registry, bundles: tuple[Bundle, ...]) -> None:
    class Stopping(LocalStore):
        def put(self, key: str, data: bytes) -> None:
            raise StoreUnavailable("The disk is full.")

    with pytest.raises(StoreUnavailable):
        Registry(Stopping(registry.store.uri)).publish(bundles[0])
    (found,) = verify_registry(registry, NAME)
    assert (found.note, found.file) == (True, f"{NAME}/versions/v0004/")


def test_a_ledger_of_the_first_release_is_sound(registry: Registry) -> None:
    new = ("who", "bundle_sha256", "stores", "outcome", "evidence", "evidence_sha256")
    before = ""
    for number in (0, 1):
        old = {name: value for name, value in json.loads(registry.store.get(entry(number))).items() if name not in new}
        data = json.dumps(old | {"previous_sha256": before}).encode()
        registry.store.put(entry(number), data)
        before = hashlib.sha256(data).hexdigest()
    delete(*map(entry, range(2, 7)), *(bundle(n, file) for n in (2, 3) for file in (INFO, WEIGHTS, "claim")))(registry)
    info = json.loads(registry.store.get(bundle(1)))
    del info["ledger_head"]
    registry.store.put(bundle(1), json.dumps(info).encode())
    assert faults(registry) == []
    edit(bundle(1, WEIGHTS), b"F32", b"I32")(registry)
    assert [one.file for one in faults(registry)] == [bundle(1, WEIGHTS)]


def test_a_model_that_is_not_there_is_a_users_error(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="There is no model other"):
        verify_registry(registry, "other")


def test_a_store_that_can_not_be_read_proves_nothing(registry: Registry) -> None:
    class Down(LocalStore):
        def get(self, key: str) -> bytes:
            raise StoreUnavailable("The disk is gone.")

    with pytest.raises(StoreUnavailable):
        verify_registry(Registry(Down(registry.store.uri)), NAME)
