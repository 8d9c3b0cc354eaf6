"""Write the golden figures anew."""

from __future__ import annotations

from tests.golden import write

write()
