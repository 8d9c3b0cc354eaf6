"""Put the deployments together, start them and stop them."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve.schema import ApplicationStatus

from cxrgaze_ray.cluster.ports import start_proxy
from cxrgaze_ray.config.serve_file import APPLICATION, DeploymentOptions, ServeFile, ServingSettings
from cxrgaze_ray.errors import ServingUnavailable
from cxrgaze_ray.http.application import wait_until_ready
from cxrgaze_ray.http.proxy import MARK
from cxrgaze_ray.serving.ingress import Ingress
from cxrgaze_ray.serving.model import Model

START_S = 300.0
"""Longest time from the start of replicas to a loaded model, in seconds: on a busy machine processes start slowly."""


def build_app(args: ServingSettings | dict[str, Any]) -> serve.Application:
    """Build the application; Ray Serve calls this with the `args` of its config file."""
    settings = args if isinstance(args, ServingSettings) else ServingSettings.build(**args)
    return Ingress.bind(settings.ingress, Model.bind(settings.model, settings.served))  # type: ignore[attr-defined, no-any-return]


def start_http(file: ServeFile) -> None:
    """Start the application on the cluster that this process is connected to; see `wait_ready` for when it is there.

    Raises
    ------
    ConfigError
        If HTTP would listen beyond this machine and no token is set, or nothing can listen on its port.
    """
    file.check_exposure()
    application = file.applications[0]
    options = {item.name: item for item in application.deployments}
    ingress = _configured(Ingress, options.get("Ingress"))
    model = _configured(Model, options.get("Model"))
    start_proxy(file.http_options, file.proxy_location)
    bound = ingress.bind(application.args.ingress, model.bind(application.args.model, application.args.served))
    target = serve.RunTarget(bound, name=application.name, route_prefix=application.route_prefix)
    serve.run_many([target], wait_for_applications_running=False)


def stop_http() -> None:
    """Remove the application from the cluster, giving requests in progress some seconds to end."""
    serve.delete(APPLICATION)


def wait_ready(file: ServeFile, timeout_s: float = START_S) -> bool:
    """Wait until the application answers that its model is loaded.

    Returns
    -------
    bool
        Whether the cluster's proxy bounds what clients send: see `http.proxy`.

    Raises
    ------
    ServingUnavailable
        If it is not loaded within the time, or a deployment can't be started: the model can't be resolved or loaded.
    """
    if (headers := wait_until_ready(file.url, timeout_s, _has_failed)) is not None:
        return MARK in headers
    raise ServingUnavailable(
        f"{file.ingress.model} from {file.ingress.registry} did not load.",
        "Check that `cxrgaze models show` finds it, and read Ray's log.",
    )


def _has_failed() -> bool:
    found = serve.status().applications.get(APPLICATION)
    return found is not None and found.status == ApplicationStatus.DEPLOY_FAILED


def _configured(deployment: Any, options: DeploymentOptions | None) -> Any:
    if options is None:
        return deployment
    return deployment.options(**options.model_dump(exclude={"name"}, exclude_none=True))
