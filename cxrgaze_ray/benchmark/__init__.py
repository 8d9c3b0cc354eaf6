"""Benchmarks that print what they measured, and on what."""

from __future__ import annotations
