"""The Serve application around the routes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve.exceptions import RayServeException

from cxrgaze_ray import telemetry
from cxrgaze_ray.cluster.ports import start_proxy
from cxrgaze_ray.errors import ConfigError, ServingUnavailable, place_of
from cxrgaze_ray.http.application import wait_until_ready
from cxrgaze_ray.http.proxy import MARK
from cxrgaze_ray.lifecycle.webhook.groups import Triggers
from cxrgaze_ray.lifecycle.webhook.jobs import STATES, RayJobs
from cxrgaze_ray.lifecycle.webhook.routes import make_api
from cxrgaze_ray.lifecycle.webhook.service import Service
from cxrgaze_ray.lifecycle.webhook.settings import TOKEN_VARIABLE, WebhookSettings, read_token
from cxrgaze_ray.storage import open_store
from cxrgaze_ray.telemetry import table
from cxrgaze_ray.telemetry.logs import start_logging

APPLICATION = "cxrgaze-webhook"

_LOG = logging.getLogger("ray.serve")


@serve.deployment(
    name="Webhook",
    num_replicas=1,  # accepts one incident at a time
    max_ongoing_requests=16,
    max_queued_requests=64,
    ray_actor_options={"num_cpus": 0.1},
)
@serve.ingress()
class Webhook:
    """Takes Alertmanager's notifications and submits retraining jobs to its own cluster's job server."""

    def __init__(self, settings: WebhookSettings) -> None:
        start_logging()
        self._settings = settings
        self._token = read_token()
        jobs = RayJobs(settings.jobs_address or ray.get_runtime_context().gcs_address)
        store = open_store(settings.registry).without_retries()  # Alertmanager retries by itself
        self._service = Service(settings, Triggers(store, settings.name), jobs)
        # kept, because the loop holds its tasks only weakly
        self._watching = asyncio.get_event_loop().create_task(watch(self._service))

    # Serve calls this in the replica: the routes close over a service that can't be pickled, while an app given to
    # `serve.ingress` would have to be
    def __serve_build_asgi_app__(self) -> FastAPI:
        return make_api(self._service, self._token, self._settings.max_body_kib * 1024)


async def watch(service: Service, every_s: float = 20.0) -> None:
    """Keep the gauges of the last retraining up to date, whatever goes wrong in one look."""
    while True:
        try:
            found = await asyncio.to_thread(service.latest)
        except Exception as error:
            _LOG.error("the last retraining's state is not known: %s; asking again", place_of(error))
            found = None
        if found is not None:
            trigger, state = found
            telemetry.record(table.WEBHOOK_TRIGGER, trigger.at.timestamp())
            for one in STATES:
                telemetry.record(table.WEBHOOK_RETRAINING, float(one == state), state=one)
        await asyncio.sleep(every_s)


def build_app(args: WebhookSettings | dict[str, Any]) -> serve.Application:
    """Build the application; Ray Serve calls this with the `args` of its config file."""
    settings = args if isinstance(args, WebhookSettings) else WebhookSettings.build(**args)
    return Webhook.bind(settings)  # type: ignore[attr-defined, no-any-return]


def start_webhook(settings: WebhookSettings, timeout_s: float = 60.0) -> bool:
    """Start the application on the cluster that this process is connected to, and wait until it answers.

    Returns
    -------
    bool
        Whether the cluster's proxy bounds what clients send: see `http.proxy`.

    Raises
    ------
    ConfigError
        If no bearer token of its own is set, another application has its route, or nothing can listen on its port.
    ServingUnavailable
        If the webhook does not start.
    """
    read_token()
    start_proxy(settings)
    try:
        serve.run(build_app(settings), name=APPLICATION, route_prefix=settings.route_prefix)
    except RayServeException as error:
        raise ConfigError(
            f"Another application of this Ray Serve is at {settings.route_prefix} already.",
            "Give the webhook a route_prefix of its own, such as /webhook.",
        ) from error
    except RuntimeError as error:
        raise ServingUnavailable(
            "The webhook does not start on this cluster.",
            f"Read Ray's log, and check that {TOKEN_VARIABLE} is set where its nodes are started.",
        ) from error
    if (headers := wait_until_ready(settings.url, timeout_s)) is not None:
        return MARK in headers
    raise ServingUnavailable(
        f"Nothing answers on {settings.url}.", "If Ray Serve is running already, it keeps its port: use that one."
    )


def stop_webhook() -> None:
    """Remove the application from the cluster, giving requests in progress some seconds to end."""
    serve.delete(APPLICATION)
