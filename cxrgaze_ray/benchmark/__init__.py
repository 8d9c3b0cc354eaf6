"""Benchmarks that print what they measured, and on what.

Each module has one `bench` command, which imports it alone. Compares ways side by side in one run, and asserts nothing.
Nothing else may import this room.
"""

from __future__ import annotations
