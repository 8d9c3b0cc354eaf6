"""From a firing alert to a retraining job: ``POST /v1/retrain`` for Alertmanager."""

from cxrgaze_ray.lifecycle.webhook.app import APPLICATION, build_app, start_webhook, stop_webhook
from cxrgaze_ray.lifecycle.webhook.settings import TOKEN_VARIABLE, WebhookSettings, read_token

__all__ = [
    "APPLICATION",
    "TOKEN_VARIABLE",
    "WebhookSettings",
    "build_app",
    "read_token",
    "start_webhook",
    "stop_webhook",
]
