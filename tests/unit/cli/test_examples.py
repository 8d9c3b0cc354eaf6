"""The examples that come with the package, copied to a folder of one's own."""

from __future__ import annotations

from pathlib import Path

from tests.command import Cxrgaze


def test_examples_are_copied_once_and_say_what_comes_next(cxrgaze: Cxrgaze, tmp_path: Path) -> None:
    site = tmp_path / "a site"
    ended = cxrgaze("examples", "copy", site)
    assert ended.code == 0
    assert f"cxrgaze serve --config '{site}/serve_configs/local.yaml'" in ended.out + ended.err
    assert (site / "infra" / "kuberay").is_dir()
    assert not list(site.rglob("record_commit.py")), "how this package itself is built is no example"
    again = cxrgaze("examples", "copy", site)
    assert again.code == 2
    assert f"{site}/jobs is there already." in again.err
