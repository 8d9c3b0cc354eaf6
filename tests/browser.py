"""Pages as a person sees them: rendered by Debian's chromium, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


def screenshot(page: Path, folder: Path, height: int = 3600) -> NDArray[np.int16]:
    """Return a page's RGB pixels (height, 1200, 3); skips without a browser, and in CI fails."""
    browser = shutil.which("chromium")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing")
        pytest.skip("needs Debian's chromium")
    picture = folder / "page.png"
    # --host-resolver-rules: whatever the page asks of a network fails
    subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size=1200,{height}",
            f"--user-data-dir={folder}/profile", page.as_uri(),
        ],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(picture) as shown:
        return np.asarray(shown.convert("RGB"), np.int16)
