"""Which trainings the tables need: order, shared phases, settings, and what a store lacks."""

from __future__ import annotations

import pytest

from cxrgaze_ray.errors import ConfigError
from cxrgaze_ray.models.settings import SYSTEMS
from cxrgaze_ray.paper.plan import TablesSettings, lacking, plan_jobs
from cxrgaze_ray.paper.reported import TABLE_1, TABLE_2, TITLES, reported
from cxrgaze_ray.shards import SplitSettings, StoreInfo


def info(**counts: int) -> StoreInfo:
    return StoreInfo(
        profile="p", profile_sha256="", manifest_sha256="", split=SplitSettings(), shards=[], counts=counts
    )


def test_every_system_is_trained_once_a_seed_and_parents_come_first() -> None:
    jobs = plan_jobs(TablesSettings(preset="tiny", seeds=2))
    assert len(jobs) == 2 * len(SYSTEMS)
    for seed in (0, 1):
        names = [job.system for job in jobs if job.seed == seed]
        assert sorted(names) == sorted(SYSTEMS)
        assert all(job.settings.seed == job.seed for job in jobs)
        for job in jobs:
            assert job.parent is None or names.index(job.parent) < names.index(job.system)


def test_phases_that_the_parent_was_trained_in_are_not_trained_again() -> None:
    jobs = {job.system: job for job in plan_jobs(TablesSettings(preset="tiny"))}
    assert list(jobs["dnet201-cl"].settings.stages) == ["contrastive", "encoder"]
    assert (jobs["gazenet"].parent, list(jobs["gazenet"].settings.stages)) == ("dnet201-cl", ["saliency", "classifier"])


def test_some_systems_bring_what_they_go_on_from_which_is_not_shown() -> None:
    jobs = plan_jobs(TablesSettings(preset="tiny", only=("gazenet", "unet-s")))
    assert [(job.system, job.shown) for job in jobs] == [("dnet201-cl", False), ("gazenet", True), ("unet-s", True)]


def test_epochs_are_at_most_what_is_asked_and_settings_go_over_every_recipe() -> None:
    jobs = plan_jobs(TablesSettings(preset="tiny", epochs=3, training={"backbone": "fresh"}))
    assert {stage.epochs for job in jobs for stage in job.settings.stages.values()} == {3}
    assert {job.settings.backbone for job in jobs} == {"fresh"}


@pytest.mark.parametrize(
    "training", [{"seed": 3}, {"preset": "full"}, {"system": "unet-s"}, {"stages": {}}, {"colour": 1}]
)
def test_a_setting_that_is_not_of_every_training_is_refused(training: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        plan_jobs(TablesSettings(preset="tiny", training=training))


def test_an_unknown_system_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="gazenet") as error:
        TablesSettings.build(only=("resnet",))
    assert "unet-s" in str(error.value)


def test_a_store_without_gaze_lacks_it_for_those_that_learn_from_gaze_only() -> None:
    without_gaze = info(label_normal=5, images_with_gaze=0)
    needing = {system for system in SYSTEMS if "gaze" in lacking(without_gaze, system)}
    assert needing == {"gazenet", "mt-unet", "gazegnn", "res-se-unet", "unet-s"}
    without_labels = info(images_with_gaze=5)
    assert {system for system in SYSTEMS if not lacking(without_labels, system)} == {"res-se-unet", "unet-s"}
    assert not any(lacking(info(label_normal=5, images_with_gaze=5), system) for system in SYSTEMS)


def test_the_paper_s_figures_are_printed_where_it_has_them() -> None:
    assert set(TITLES) == set(SYSTEMS) == set(TABLE_1) | set(TABLE_2) | {"dnet201"}
    assert reported("gazenet", "auc_macro") == "0.925"
    assert reported("mt-unet", "accuracy") == "0.640"
    assert reported("unet-s", "kl") == "0.781 ± 0.202"
    assert reported("unet-s", "auc_macro") == reported("gazenet", "nss") == ""


def test_an_ablation_is_for_the_systems_that_have_it() -> None:
    """GazeNet goes on from DNet201-CL, which has no tap, and the user did not name it."""
    values = {"architecture": {"tap": "transition3"}}
    jobs = {job.system: job for job in plan_jobs(TablesSettings(preset="tiny", only=("gazenet",), training=values))}
    assert jobs["gazenet"].settings.architecture == {"tap": "transition3"}
    assert jobs["dnet201-cl"].settings.architecture == {}
    with pytest.raises(ConfigError, match=r"None of unet-s has a setting architecture\.tap"):
        plan_jobs(TablesSettings(preset="tiny", only=("unet-s",), training=values))
