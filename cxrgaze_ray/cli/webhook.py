"""cxrgaze webhook."""

from __future__ import annotations

from typing import Annotated

import typer

from cxrgaze_ray.cli.console import say, stop_on_interrupt
from cxrgaze_ray.cli.options import Address


def webhook(
    config: Annotated[str, typer.Option(help="YAML file or s3:// object; jobs/webhook.yaml is an example.")],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Overrides the config's port.")] = None,
    registry: Annotated[str | None, typer.Option("--registry", envvar="CXRGAZE_REGISTRY", help="Overrides it.")] = None,
    address: Address = None,
) -> None:
    """Take Alertmanager's notifications and retrain on them, until Ctrl-C; $CXRGAZE_WEBHOOK_TOKEN says who may ask.

    Example: cxrgaze webhook --config jobs/webhook.yaml --port 8001
    """
    from cxrgaze_ray.cluster import ClusterSettings, connect
    from cxrgaze_ray.storage import read_settings
    from cxrgaze_ray.webhook import WebhookSettings, read_token, start_webhook

    settings = read_settings(WebhookSettings, config, port=port, registry=registry)
    read_token()
    with connect(ClusterSettings(address=address, jobs=address is None)) as cluster, stop_on_interrupt() as stop:
        start_webhook(settings)
        say(f"Alertmanager may post to {settings.url}/v1/retrain. Ctrl-C ends it.")
        say(f"Its jobs run on {cluster.address}; Ray's log is {cluster.log_file}.")
        stop.wait()
