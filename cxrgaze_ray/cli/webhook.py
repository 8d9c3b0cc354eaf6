"""cxrgaze webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cxrgaze_ray.cli.console import IN_THE_CLEAR, STOP_SERVING, UNBOUNDED, say, stay, stop_on_interrupt
from cxrgaze_ray.cli.options import WEBHOOK_METRICS_PORT, Address, MetricsPort, private_service

if TYPE_CHECKING:
    from cxrgaze_ray.cluster.connection import ClusterSettings
    from cxrgaze_ray.lifecycle.webhook.settings import WebhookSettings


def webhook(
    config: Annotated[str, typer.Option(help="YAML file or s3:// object; jobs/webhook.yaml is an example.")],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Overrides the config's port.")] = None,
    registry: Annotated[
        str | None, typer.Option("--registry", envvar="CXRGAZE_REGISTRY", help="Overrides the config's registry.")
    ] = None,
    metrics_port: MetricsPort = WEBHOOK_METRICS_PORT,
    address: Address = None,
) -> None:
    """Take Alertmanager's notifications and retrain on them, until Ctrl-C; they must carry $CXRGAZE_WEBHOOK_TOKEN.

    Example: cxrgaze webhook --config jobs/webhook.yaml --port 8001
    """
    from cxrgaze_ray.lifecycle.webhook.settings import WebhookSettings, read_token
    from cxrgaze_ray.storage import read_settings

    settings = read_settings(WebhookSettings, config, port=port, registry=registry)
    read_token()
    with private_service(settings, metrics_port, address) as where:
        _check(settings, config_is_here=address is None)
        _host(settings, where.model_copy(update={"jobs": address is None}))


def _check(settings: WebhookSettings, *, config_is_here: bool) -> None:
    """Check what a retraining will need; on a running cluster, its settings may exist only on the nodes."""
    from cxrgaze_ray.lifecycle.retraining.settings import read_retraining
    from cxrgaze_ray.registry.versions import CHAMPION, Registry
    from cxrgaze_ray.storage import open_store

    Registry(open_store(settings.registry)).resolve(f"{settings.name}@{CHAMPION}")
    if config_is_here:
        read_retraining(settings.config)


def _host(settings: WebhookSettings, where: ClusterSettings) -> None:
    from cxrgaze_ray.cluster.connection import connect
    from cxrgaze_ray.lifecycle.webhook import start_webhook, stop_webhook

    with connect(where) as cluster, stop_on_interrupt(STOP_SERVING) as stop:
        if not start_webhook(settings):
            say(UNBOUNDED)
        say(f"Alertmanager may post to {settings.told_url}/v1/retrain. Ctrl-C ends this.")
        if settings.in_the_clear:
            say(IN_THE_CLEAR)
        say(f"Its jobs run on {cluster.address}; Ray's logs are in {cluster.logs}.")
        try:
            stay(stop)
        finally:
            stop_webhook()
