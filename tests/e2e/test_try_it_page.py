"""The try-it page in a browser, as somebody with a mouse, a keyboard or a screen reader works with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.config.serve_file import IngressSettings
from cxrgaze_ray.serving.routes import make_api
from tests.browser import Tab, browsing
from tests.dicom_files import gradient, make_dicom
from tests.service_here import ServiceHere, listening

pytestmark = pytest.mark.long

TOKEN = "a-long-random-string"
STATUS = "document.getElementById('status').textContent"


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceHere]:
    made = ServiceHere()
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(service: ServiceHere) -> Iterator[str]:
    with listening(make_api(service, IngressSettings(page=True))) as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browsing(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def radiograph(tmp_path: Path) -> Path:
    """Return a DICOM file, which no browser can show; it is wide, so that the model image has padding above it."""
    path = tmp_path / "DOE^JANE.dcm"
    path.write_bytes(make_dicom(gradient(400, 500)))
    return path


def is_met(tab: Tab) -> None:
    tab.wait_for("document.getElementById('model').textContent.includes('v0001')")


def is_scored(tab: Tab) -> None:
    tab.wait_for(f"{STATUS}.startsWith('Scored') && document.getElementById('caption').textContent.includes('map is')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_dropped_radiograph_is_shown_with_its_gaze_and_probabilities(
    tab: Tab, url: str, radiograph: Path, width: int, dark: bool
) -> None:
    tab.complaints.clear()
    tab.asked.clear()
    tab.open(url, width=width, dark=dark)
    is_met(tab)
    tab.drop(radiograph, width // 2, 200)
    is_scored(tab)
    assert "not for clinical use" in tab.evaluate("document.querySelector('.banner').innerText")
    assert tab.evaluate("document.getElementById('bars').innerText").count("%") == 3
    # the wide picture without the padding of the model image, and the map of the same part over it
    sizes = "[...document.querySelectorAll('canvas')].map(one => [one.width, one.height])"
    assert tab.evaluate(sizes) == [[512, 410], [512, 410]]
    places = "[...document.querySelectorAll('canvas')].map(one => JSON.stringify(one.getBoundingClientRect()))"
    assert len(set(tab.evaluate(places))) == 1
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing runs off the side"
    assert contrasts(tab) == []
    assert tab.complaints == []
    assert {"/".join(one.split("/")[:3]) for one in tab.asked} == {url}
    assert "DOE" not in str(tab.asked)


def contrasts(tab: Tab) -> list[str]:
    """Return the texts whose contrast with what is behind them is below 4.5, as WCAG asks for."""
    script = """
      [...document.querySelectorAll('h1,h2,p,label,a,dt,dd,legend,output,span,button,figcaption')]
        .filter(one => one.offsetParent && one.innerText.trim())
        .map(one => {
          let behind = one;
          while (behind.parentElement && getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)')
            behind = behind.parentElement;
          return [one.innerText, getComputedStyle(one).color, getComputedStyle(behind).backgroundColor];
        })"""
    found = tab.evaluate(script)
    assert len(found) > 20
    return [text for text, front, back in found if contrast(front, back) < 4.5]


def contrast(front: str, back: str) -> float:
    light, dark = sorted((luminance(front), luminance(back)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    levels = np.array([int(one) for one in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def test_the_slider_and_the_choice_change_what_lies_over_the_picture(tab: Tab, url: str, radiograph: Path) -> None:
    tab.open(url)
    is_met(tab)
    tab.choose(radiograph, "#file")
    is_scored(tab)
    with_gaze = stack(tab)
    tab.evaluate("document.getElementById('strength').focus()")
    tab.press(*["ArrowLeft"] * 14)
    assert tab.evaluate("document.getElementById('strength-told').textContent") == "0%"
    bare = stack(tab)
    assert np.abs(bare - with_gaze).mean() > 10
    assert np.ptp(bare, axis=2).max() == 0, "the picture itself is grey"
    tab.press(*["ArrowRight"] * 14)
    tab.evaluate("document.querySelector('input[value=grad_cam]').click()")
    tab.wait_for(f"{STATUS} === 'Grad-CAM is shown.'")
    tab.wait_for("document.getElementById('over-means').textContent.includes('not where a reader would look')")
    assert np.abs(stack(tab) - with_gaze).mean() > 1
    tab.evaluate("document.querySelector('input[value=none]').click()")
    tab.wait_for("document.getElementById('map').hidden")
    np.testing.assert_array_equal(stack(tab), bare)


def stack(tab: Tab) -> NDArray[np.int16]:
    """Return the pixels of the picture with what lies over it."""
    script = """(() => {
      const box = document.getElementById('stack').getBoundingClientRect();
      return [box.top + scrollY, box.bottom + scrollY, box.left, box.right].map(Math.round);
    })()"""
    top, bottom, left, right = tab.evaluate(script)
    return tab.picture()[top + 8 : bottom - 8, left + 8 : right - 8]


def test_it_is_worked_by_keyboard_and_read_aloud(tab: Tab, url: str, radiograph: Path) -> None:
    tab.open(url)
    is_met(tab)
    focused = "document.activeElement.id || document.activeElement.getAttribute('href')"
    order = []
    for _ in range(2):
        tab.press("Tab")
        order.append(tab.evaluate(focused))
    assert order == ["docs", "file"]
    tab.choose(radiograph, "#file")
    is_scored(tab)
    assert tab.evaluate(focused) == "found-head"
    spoken = tab.spoken()
    names = {role: [name for kind, name in spoken if kind == role] for role, _ in spoken}
    assert any("drop it anywhere" in name for name in names["button"])
    assert names["radio"] == ["Predicted gaze", "Grad-CAM", "Nothing"]
    assert names["slider"] == ["Strength"]
    assert any("as the model saw it; the map is" in name for name in names["image"])
    assert [name.partition(":")[0] for name in names["meter"]] == ["normal", "heart failure", "pneumonia"]
    assert "status" in names
    assert not [
        name for role in ("button", "link", "textbox", "slider", "radio") for name in names.get(role, []) if not name
    ]


def test_a_file_that_can_t_be_scored_says_why(tab: Tab, url: str, tmp_path: Path) -> None:
    tab.open(url)
    is_met(tab)
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4" * 50)
    tab.choose(tmp_path / "letter.pdf", "#file")
    tab.wait_for("!document.getElementById('refusal').hidden")
    assert "(not_an_image)" in tab.evaluate("document.getElementById('refusal').innerText")
    assert tab.evaluate("document.getElementById('result').hidden")
    assert "alert" in {role for role, _ in tab.spoken()}


def test_a_token_is_asked_for_and_kept_in_memory_only(tab: Tab, service: ServiceHere, radiograph: Path) -> None:
    with listening(make_api(service, IngressSettings(page=True), TOKEN)) as url:
        tab.open(url)
        tab.wait_for("document.activeElement.id === 'token'")
        for given in ("wrong", TOKEN):
            tab.send("Input.insertText", text=given)
            tab.press("Enter")
            if given == "wrong":
                tab.wait_for("document.getElementById('refusal').innerText.includes('unauthorised')")
        is_met(tab)
        tab.choose(radiograph, "#file")
        is_scored(tab)
        kept = "[localStorage.length, sessionStorage.length, document.cookie, document.body.outerHTML, location.href]"
        local, session, cookie, html, address = tab.evaluate(kept)
        assert (local, session, cookie) == (0, 0, "")
        assert TOKEN not in html + address
        tab.open(url)
        tab.wait_for("document.activeElement.id === 'token'")


def test_a_picture_that_came_before_the_token_is_scored_once_it_is_given(
    tab: Tab, service: ServiceHere, radiograph: Path
) -> None:
    with listening(make_api(service, IngressSettings(page=True), TOKEN)) as url:
        tab.open(url)
        tab.wait_for("document.activeElement.id === 'token'")
        tab.choose(radiograph, "#file")
        tab.wait_for(f"{STATUS} === 'Enter the token; the picture is scored then.'")
        tab.wait_for("document.activeElement.id === 'token'")
        for given in ("wrong", TOKEN):
            tab.send("Input.insertText", text=given)
            tab.press("Enter")
            if given == "wrong":
                tab.wait_for("document.getElementById('refusal').innerText.includes('unauthorised')")
                tab.wait_for(f"{STATUS} === 'Enter the token; the picture is scored then.'")
        is_scored(tab)


def test_the_description_of_http_is_drawn_without_a_network(tab: Tab, url: str) -> None:
    tab.complaints.clear()
    tab.asked.clear()
    tab.open(f"{url}/docs")
    tab.wait_for("document.querySelectorAll('.opblock').length === 5")
    assert tab.complaints == []
    assert {"/".join(one.split("/")[:3]) for one in tab.asked if not one.startswith("data:")} == {url}
