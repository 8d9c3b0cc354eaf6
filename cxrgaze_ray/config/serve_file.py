"""A Ray Serve config file, read strictly. Not in `serving`, so that a command can check one before it loads Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from cxrgaze_ray.config import DeviceName, EngineKind, Settings, Uri
from cxrgaze_ray.config.listening import Listening, is_loopback, token_of
from cxrgaze_ray.errors import ConfigError

APPLICATION = "cxrgaze"
TOKEN_VARIABLE = "CXRGAZE_TOKEN"
"""Environment variable that holds the bearer token of the HTTP interface."""


class IngressSettings(Settings):
    """The model that the ingress serves, and the limits on requests."""

    registry: Uri = "./registry"
    """Store of the model registry."""

    model: Uri = "cxrgaze@champion"
    """Model to serve: name@alias, name@v3, or a bundle's URI. An alias is followed when it moves."""

    engine: EngineKind = "auto"
    """float32, exact, fast, or auto, which is fast; see `models.engines.engine.engines_for`."""

    view: Literal["frontal", "all"] = "frontal"
    """frontal refuses laterals; all scores every view."""

    max_body_mib: int = Field(64, ge=1, le=4096)
    """Largest request body, in MiB."""

    max_batch: int = Field(32, ge=1, le=1024)
    """Most files in one request to /v1/predict/batch; together they are no more than ``max_body_mib``."""

    page: bool | None = None
    """Whether / shows a page to try the model on, and /docs the description of HTTP; None shows both where HTTP listens
    on this machine alone, which `cxrgaze serve` knows, and `serve deploy` does not."""

    decode_timeout_s: float = Field(30.0, gt=0, le=3600)
    """Longest time that decoding one image may take, in seconds."""

    decoders: int = Field(2, ge=1, le=1024)
    """Decoding processes of an ingress replica, and so the number of bodies decoded at once."""

    model_timeout_s: float = Field(60.0, gt=0, le=3600)
    """Longest time that a request waits for the model, in seconds; then it is answered 503."""

    follow_every_s: float = Field(10.0, gt=0, le=86_400)
    """Seconds between two checks of the registry for a move of the alias."""

    require_token: bool = False
    """Refuse to start without a bearer token in $CXRGAZE_TOKEN. Where HTTP listens beyond its own machine, it is needed
    whatever this says."""


class ComputeSettings(Settings):
    """Settings of a replica's computing."""

    threads: int | None = Field(None, ge=1, le=4096)
    """CPU threads of a forward pass; None takes every core. Set it where several replicas share a node's cores."""

    device: DeviceName = "auto"
    """Device of a replica; auto takes the GPU that Ray gave it, if it gave one that really exists."""


@dataclass(frozen=True)
class Served:
    """The model that the application serves: a replica that starts later loads it before it counts as ready."""

    registry: str
    model: str
    engine: EngineKind


class ServingSettings(Settings):
    """Arguments of `build_app`."""

    ingress: IngressSettings = IngressSettings()
    model: ComputeSettings = ComputeSettings()

    @property
    def served(self) -> Served:
        """The model that replicas load before they are ready."""
        return Served(self.ingress.registry, self.ingress.model, self.ingress.engine)


class AutoscalingOptions(Settings):
    """Bounds of a deployment's replicas."""

    min_replicas: int = Field(1, ge=0, le=10_000)
    initial_replicas: int | None = Field(None, ge=0, le=10_000)
    max_replicas: int = Field(1, ge=1, le=10_000)
    target_ongoing_requests: float = Field(2.0, gt=0, le=100_000)
    upscale_delay_s: float = Field(30.0, ge=0, le=86_400)
    downscale_delay_s: float = Field(600.0, ge=0, le=86_400)
    look_back_period_s: float = Field(30.0, gt=0, le=86_400)


class ActorOptions(Settings):
    """The share of its node that a replica takes."""

    num_cpus: float = Field(1.0, ge=0, le=10_000)
    num_gpus: float = Field(0.0, ge=0, le=1000)


class DeploymentOptions(Settings):
    """Overrides of one deployment."""

    name: Literal["Ingress", "Model"]
    num_replicas: int | None = Field(None, ge=1, le=10_000)
    max_ongoing_requests: int | None = Field(None, ge=1, le=1_000_000)
    max_queued_requests: int | None = Field(None, ge=-1, le=1_000_000)
    max_replicas_per_node: int | None = Field(None, ge=1, le=100)
    health_check_period_s: float | None = Field(None, gt=0, le=86_400)
    health_check_timeout_s: float | None = Field(None, gt=0, le=86_400)
    graceful_shutdown_timeout_s: float | None = Field(None, ge=0, le=86_400)
    autoscaling_config: AutoscalingOptions | None = None
    ray_actor_options: ActorOptions | None = None


class ApplicationOptions(Settings):
    """The one application that a config file may name."""

    name: Literal["cxrgaze"] = "cxrgaze"
    route_prefix: str = Field("/", pattern=r"^/[a-z0-9/_-]*$", max_length=200)
    import_path: Literal["cxrgaze_ray.serving:build_app"] = "cxrgaze_ray.serving:build_app"
    args: ServingSettings = ServingSettings()
    deployments: list[DeploymentOptions] = Field([], min_length=0, max_length=2)


class ServeFile(Settings):
    """A Ray Serve config file, read strictly: Ray's own schema lets misspelt keys and names pass."""

    proxy_location: Literal["EveryNode", "HeadOnly", "Disabled"] = "HeadOnly"
    http_options: Listening = Listening()
    applications: list[ApplicationOptions] = Field([ApplicationOptions()], min_length=1, max_length=1)

    @property
    def ingress(self) -> IngressSettings:
        """The arguments of the ingress."""
        return self.applications[0].args.ingress

    @property
    def url(self) -> str:
        """URL at which clients on this machine reach the application."""
        return f"{self.http_options.origin}{self.applications[0].route_prefix}".rstrip("/")

    @property
    def told_url(self) -> str:
        """URL of the application to tell people."""
        return f"{self.http_options.told_origin}{self.applications[0].route_prefix}".rstrip("/")

    def with_arguments(self, *, port: int | None = None, **ingress: Any) -> ServeFile:
        """Return the file with its port or some arguments of the ingress replaced; None leaves a value as it is."""
        data = self.model_dump()
        arguments = data["applications"][0]["args"]["ingress"]
        arguments.update({name: value for name, value in ingress.items() if value is not None})
        if port is not None:
            data["http_options"]["port"] = port
        return ServeFile.build(**data)

    def with_page(self) -> ServeFile:
        """Return the file with the page on or off: where nothing is said, it is on for this machine's own users."""
        page = self.ingress.page
        return self.with_arguments(page=is_loopback(self.http_options.host) if page is None else page)

    def check_exposure(self) -> None:
        """Check who can reach HTTP.

        Raises
        ------
        ConfigError
            If it would listen beyond this machine and no token is set, or the token is none to rely on.
        """
        host, token = self.http_options.host, token_of(TOKEN_VARIABLE)
        if not is_loopback(host) and not token:
            raise ConfigError(
                f"HTTP on {host} can be reached by others, and there is no token.",
                f"Set {TOKEN_VARIABLE} to a long random string, or listen on 127.0.0.1.",
            )
