"""The container image: what it is built from is there and agrees with lock and manifests, and its programs work."""

from __future__ import annotations

import json
import re
import runpy
import ssl
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cxrgaze_ray import __version__
from cxrgaze_ray.cluster.connection import PROXY_MIDDLEWARES, PROXY_VARIABLE
from cxrgaze_ray.config.serve_file import ServeFile
from tests.authority import make_authority
from tests.kustomizations import containers
from tests.unit.test_kubernetes import below, pods, resources

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "infra" / "image"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split())


def instructions() -> list[tuple[str, str]]:
    """Return the Containerfile's instructions and their arguments, on one line each."""
    text = re.sub(r"^#.*\n", "", (IMAGE / "Containerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(word, rest) for line in text.splitlines() if line for word, _, rest in [line.partition(" ")]]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage, those of the stages it begins with before its own."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [*found.get(base, [])]
        elif found:
            found[name].append((word, rest))
    return found


FINAL = pytest.mark.parametrize("target", ["cpu", "cuda"])


def test_the_base_is_pinned_by_its_digest_and_used_by_every_stage() -> None:
    ((_, base),) = [one for one in instructions() if one[0] == "ARG" and one[1].startswith("BASE=")]
    tag = re.fullmatch(r"BASE=python:(\d+\.\d+)\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", base)
    assert tag
    assert f"Programming Language :: Python :: {tag[1]}" in PROJECT["project"]["classifiers"]
    begins = {rest.partition(" AS ")[0] for word, rest in instructions() if word == "FROM"}
    assert begins - stages().keys() == {"${BASE}"}


def test_everything_copied_is_there_and_in_the_context() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*", "what is not named is not sent: data, registries and tokens lie in checkouts too"
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    for _, rest in (one for one in instructions() if one[0] == "COPY" and "--from=" not in one[1]):
        *sources, _ = (word for word in rest.split() if not word.startswith("--"))
        for source in sources:
            assert (ROOT / source).exists(), source
            assert any(fnmatch(source, one) or source.startswith(f"{one}/") for one in named), source
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "README.md", "LICENSE"} <= named


def test_packages_are_those_of_the_lock_and_only_wheels() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip" in rest and " install " in rest]
    assert installs
    for command in installs:
        for one in re.findall(r"pip(?: --python \S+)? install [^&]*", command):
            assert "--constraint requirements.lock" in one or "--no-deps /wheel/" in one or "/tools/wanted.txt" in one
    assert ("ENV", True) in {(word, "PIP_ONLY_BINARY=:all:" in rest) for word, rest in stages()["tools"]}
    assert re.search(r"^cyclonedx-bom==", (ROOT / "requirements-tools.txt").read_text(), re.M)


@FINAL
def test_nothing_of_the_build_is_in_the_image(target: str) -> None:
    final = stages()[target]
    assert {rest.split()[0] for word, rest in final if word == "COPY"} == {"--chmod=755", "--from=installed"}
    run = " ".join(rest for word, rest in final if word == "RUN")
    assert not re.search(r"\b(pip|apt|apt-get|curl|wget)\b", run)


@FINAL
def test_its_user_is_the_manifests_and_has_no_rights(target: str) -> None:
    final = dict(stages()[target])
    (user,) = {
        f"{pod['spec']['securityContext']['runAsUser']}:{pod['spec']['securityContext']['runAsGroup']}"
        for document in resources()
        for pod in pods(document)
    }
    assert final["USER"] == user
    uid, gid = user.split(":")
    assert f"useradd --uid {uid} --gid {gid} " in final["RUN"]
    assert "-perm /6000 -exec chmod a-s" in final["RUN"]


def test_the_manifests_name_it() -> None:
    made = re.search(r"^IMAGE := (\w+):\$\(shell sed", (ROOT / "Makefile").read_text(), re.M)
    assert made
    named = {one["image"].rpartition("/")[2] for one in containers(list(resources()))}
    assert named == {f"{made[1]}:{PROJECT['project']['version']}"} == {f"cxrgaze:{__version__}"}
    assert f'org.opencontainers.image.version="{__version__}"' in dict(stages()["cpu"])["LABEL"]


@FINAL
def test_its_environment_is_the_manifests(target: str) -> None:
    words = " ".join(rest for word, rest in stages()[target] if word == "ENV").split()
    env = dict(one.split("=", 1) for one in words)
    assert env[PROXY_VARIABLE] == PROXY_MIDDLEWARES
    for variables in below(list(resources("RayService")), "env"):
        for one in variables:
            assert env.get(one["name"], one.get("value")) == one.get("value")
    assert env["HOME"] == "/tmp", "all that is writable on a read-only root"
    assert ("NVIDIA_VISIBLE_DEVICES" in env) is (target == "cuda")
    assert dict(stages()[target])["EXPOSE"] == str(ServeFile().http_options.port)


@FINAL
def test_its_health_check_and_its_command_exist(target: str) -> None:
    final = stages()[target]
    (check,) = re.findall(r"CMD (\[.*\])", dict(final)["HEALTHCHECK"])
    (program,) = json.loads(check)
    assert ("COPY", f"--chmod=755 infra/image/healthy.py /usr/local/bin/{program}") in final
    (entry,) = json.loads(dict(final)["ENTRYPOINT"])
    assert entry in PROJECT["project"]["scripts"]


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(IMAGE / name))


def test_what_pip_is_asked_for_is_locked() -> None:
    wanted, text = script("wanted.py")["wanted"], (ROOT / "pyproject.toml").read_text()
    (extras,) = [rest.partition("=")[2] for word, rest in instructions() if rest.startswith("EXTRAS=")]
    asked = {canonicalize_name(Requirement(line).name) for line in wanted(text, extras)}
    assert {"ray", "torch", "watchfiles", "highdicom"} <= asked
    assert asked <= {canonicalize_name(name) for name in LOCK}
    everything = {canonicalize_name(Requirement(line).name) for line in wanted(text, "all")}
    assert asked < everything <= {canonicalize_name(name) for name in LOCK}, "not this package itself"
    assert wanted(text, "") == PROJECT["project"]["dependencies"]
    with pytest.raises(SystemExit, match="no extra trian; there are train"):
        wanted(text, "trian,serve")


def test_the_bill_names_the_interpreter_and_debian_s_packages() -> None:
    listed = "ii \tlibc6\t2.36-9+deb12u13\tamd64\nrc \tgone\t1\tall\nii \tbash\t5.2.15-2+b8\tamd64\n"
    packages = json.dumps({"bomFormat": "CycloneDX", "components": [{"name": "ray", "version": "2.60.0"}]})
    found = json.loads(script("bill.py")["bill"](packages, listed))
    assert [one["name"] for one in found["components"]] == ["ray", "python", "bash", "libc6"]
    assert found["components"][1]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["components"][3]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64"
    references = [one.get("bom-ref") for one in found["components"][1:]]
    assert len(set(references)) == 3


@pytest.mark.parametrize(
    ("command", "port"),
    [
        ("cxrgaze serve", 8000),
        ("/opt/cxrgaze/bin/python /opt/cxrgaze/bin/cxrgaze serve --model m@v1 --port 9000", 9000),
        ("catatonit -- cxrgaze serve --port=9001", 9001),
        ("cxrgaze score in --out serve", None),
        ("bash -c ray start --block", None),
        ("cxrgaze", None),
    ],
)
def test_only_a_service_is_asked_for_its_health(command: str, port: int | None) -> None:
    assert script("healthy.py")["served_port"]([*command.split(), ""]) == port


@contextmanager
def answering(code: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_service_is_healthy_once_it_is_ready() -> None:
    is_ready = script("healthy.py")["is_ready"]
    with answering(200) as port:
        assert is_ready(port)
    assert not is_ready(port), "nothing listens there any more"
    with answering(503) as port:
        assert not is_ready(port)


def test_a_service_over_tls_is_asked_too(tmp_path: Path) -> None:
    with answering(200, make_authority(tmp_path).server) as port:
        assert script("healthy.py")["is_ready"](port)
