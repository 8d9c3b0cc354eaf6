"""Put the deployments together, from a strict reading of a Ray Serve config file."""

from __future__ import annotations

import ipaddress
import os
import time
from typing import Any, Literal
from urllib.request import urlopen

from pydantic import Field
from ray import serve

from cxrgaze_ray.config import Settings, Text
from cxrgaze_ray.errors import ConfigError, ServingUnavailable
from cxrgaze_ray.serving.ingress import TOKEN_VARIABLE, Ingress, IngressSettings
from cxrgaze_ray.serving.model import ComputeSettings, Model, Served


class ServingSettings(Settings):
    """Arguments of `build_app`."""

    ingress: IngressSettings = IngressSettings()
    model: ComputeSettings = ComputeSettings()

    @property
    def served(self) -> Served:
        """What replicas load before they are ready."""
        return Served(self.ingress.registry, self.ingress.model, self.ingress.engine)


class HttpOptions(Settings):
    """Where HTTP listens."""

    host: Text = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65_535)


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
    """What a replica takes of its node."""

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
    http_options: HttpOptions = HttpOptions()
    applications: list[ApplicationOptions] = Field([ApplicationOptions()], min_length=1, max_length=1)

    @property
    def ingress(self) -> IngressSettings:
        """The arguments of the ingress."""
        return self.applications[0].args.ingress

    @property
    def url(self) -> str:
        """Where clients on this machine reach the application."""
        return f"http://{self.http_options.host}:{self.http_options.port}{self.applications[0].route_prefix}".rstrip(
            "/"
        )

    def with_arguments(self, *, port: int | None = None, **ingress: Any) -> ServeFile:
        """Return the file with its port or some arguments of the ingress replaced; None leaves one as it is."""
        data = self.model_dump()
        arguments = data["applications"][0]["args"]["ingress"]
        arguments.update({name: value for name, value in ingress.items() if value is not None})
        if port is not None:
            data["http_options"]["port"] = port
        return ServeFile.build(**data)


def build_app(args: ServingSettings | dict[str, Any]) -> serve.Application:
    """Build the application; Ray Serve calls this with the `args` of its config file."""
    settings = args if isinstance(args, ServingSettings) else ServingSettings.build(**args)
    return Ingress.bind(settings.ingress, Model.bind(settings.model, settings.served))  # type: ignore[attr-defined, no-any-return]


def start_http(file: ServeFile) -> None:
    """Start the application on the cluster that this process is connected to.

    Raises
    ------
    ConfigError
        If HTTP would listen beyond this machine and no token is set.
    """
    host = file.http_options.host
    if not _is_loopback(host) and not os.environ.get(TOKEN_VARIABLE):
        raise ConfigError(
            f"HTTP on {host} can be reached by others, and there is no token.",
            f"Set {TOKEN_VARIABLE} to a long random string, or listen on 127.0.0.1.",
        )
    application = file.applications[0]
    options = {item.name: item for item in application.deployments}
    ingress = _configured(Ingress, options.get("Ingress"))
    model = _configured(Model, options.get("Model"))
    serve.start(proxy_location=file.proxy_location, http_options=file.http_options.model_dump())
    bound = ingress.bind(application.args.ingress, model.bind(application.args.model, application.args.served))
    serve.run(bound, name=application.name, route_prefix=application.route_prefix)


def wait_ready(file: ServeFile, timeout_s: float = 120.0) -> None:
    """Wait until the application answers that its model is loaded.

    Raises
    ------
    ServingUnavailable
        If it does not within the time: the model can't be resolved or loaded.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with urlopen(f"{file.url}/healthz", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise ServingUnavailable(
        f"{file.ingress.model} from {file.ingress.registry} did not load.",
        "See that `cxrgaze models show` finds it, and Ray's log.",
    )


def _configured(deployment: Any, options: DeploymentOptions | None) -> Any:
    if options is None:
        return deployment
    return deployment.options(**options.model_dump(exclude={"name"}, exclude_none=True))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
