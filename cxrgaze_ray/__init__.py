"""Distributed scoring of chest X-ray archives, and retraining of the model that scores them, on Ray."""

__version__ = "0.1.0"
