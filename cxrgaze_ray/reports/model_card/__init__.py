"""A model's card, generated from its bundle and its ledger: what to show to whoever asks why it is in service."""

from cxrgaze_ray.reports.model_card.card import Card, card_format, model_card

__all__ = ["Card", "card_format", "model_card"]
