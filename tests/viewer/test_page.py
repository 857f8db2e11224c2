import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image
from playable import publish_agent, show
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright
from screens import wait_until

import workspace
from irisflow.errors import ResourceError
from irisflow.viewer import web
from irisflow.viewer.screen import SIDE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish_agent(tmp_path_factory.mktemp("agent") / "it")


@pytest.fixture
def address(agent: Path, tmp_path: Path) -> Iterator[str]:
    """A real `irisflow play --web`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "irisflow", "play", str(agent), "-w", "-h", "--web", "--port", "0", "--media", str(tmp_path)],
        env={**workspace.environment(workspace.ROOT), "PYTHONUNBUFFERED": "1"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line + process.stderr.read()
        yield found[0]
    finally:
        process.terminate()
        _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    assert process.returncode == 143


def action(tab: Tab) -> str:
    """The newest action that the page names."""
    return dict(zip(tab.locator("dt").all_inner_texts(), tab.locator("dd").all_inner_texts(), strict=False))[
        "action"
    ]


def keep(tab: Tab, name: str) -> None:
    """Save a screenshot where someone wants to look at it."""
    if folder := os.environ.get("IRISFLOW_SCREENSHOTS"):
        tab.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_a_real_browser_plays_the_world_model(address: str) -> None:
    complaints: list[str] = []
    foreign: list[str] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.on(
            "console",
            lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda asked: foreign.append(asked.url))
        tab.goto(address)
        frame = tab.locator("#frame")
        wait_until(lambda: (frame.get_attribute("src") or "").startswith("blob:"), "a frame")
        assert tab.inner_text("#source") == "world model"
        assert tab.inner_text("#player") == "you"
        first = frame.get_attribute("src")
        wait_until(lambda: frame.get_attribute("src") != first, "another frame")
        assert tab.evaluate("document.getElementById('frame').naturalWidth") == SIDE
        tab.keyboard.down("ArrowLeft")
        wait_until(lambda: action(tab) == "LEFT", "an action by key")
        tab.keyboard.up("ArrowLeft")
        wait_until(lambda: action(tab) == "NOOP", "its end")
        keep(tab, "page_desktop")
        tab.click("button[data-key='g']")
        tab.keyboard.press("f")
        wait_until(lambda: "press a key" in tab.inner_text("#status"), "the wish for futures")
        tab.keyboard.press("ArrowRight")
        picks = tab.locator("#picks button")
        wait_until(lambda: picks.count() == 4, "an offer of futures")
        tab.set_viewport_size({"width": 375, "height": 740})
        keep(tab, "page_phone")
        assert tab.evaluate("document.documentElement.scrollWidth") <= 375
        picks.nth(1).click()
        wait_until(lambda: picks.count() == 0, "the future that was picked")
        tab.click("button[data-key='m']")
        wait_until(lambda: tab.inner_text("#player") == "agent", "another player")
        browser.close()
    assert complaints == []
    assert all(url.startswith((address, "blob:", "data:")) for url in foreign)


def talk(one: Any, conversation: Any, **options: Any) -> Any:
    """Serve a session in this process and return what a conversation with it gives."""

    async def both() -> Any:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        page = web.Page(one, num_steps=None)
        served = asyncio.create_task(page.serve(0, address.set_result))
        try:
            async with aiohttp.ClientSession() as client:
                return await conversation(client, await address)
        finally:
            one.session.is_done = True
            await served

    return asyncio.run(both())


def test_the_page_is_whole_and_only_its_own_address_is_answered(agent: Path) -> None:
    async def conversation(client: aiohttp.ClientSession, address: str) -> Any:
        async with client.get(address) as page:
            text = await page.text()
        async with client.get(address, headers={"Host": "elsewhere.example"}) as foreign:
            refused = foreign.status
        sockets = []
        for origin in (None, "http://elsewhere.example"):
            headers = {} if origin is None else {"Origin": origin}
            try:
                await client.ws_connect(f"{address}play", headers=headers)
            except aiohttp.WSServerHandshakeError as error:
                sockets.append(error.status)
        return text, page.headers["Content-Security-Policy"], refused, sockets

    text, policy, refused, sockets = talk(show(agent, "-w"), conversation)
    assert not re.search(r"(src|href)=.(https?:)?//", text)
    assert "default-src 'none'" in policy
    assert (refused, sockets) == (403, [403, 403])


def test_a_browser_is_told_facts_and_pictures_and_nonsense_is_ignored(agent: Path) -> None:
    async def conversation(client: aiohttp.ClientSession, address: str) -> Any:
        browser = await client.ws_connect(f"{address}play", headers={"Origin": address.rstrip("/")})
        for nonsense in ("{", "[]", "7", '{"down": 3}', '{"other": "m"}'):
            await browser.send_str(nonsense)
        await browser.send_str(json.dumps({"down": "left"}))
        while True:
            said = await browser.receive_json()
            picture = await browser.receive_bytes()
            if dict(said["rows"])["action"] == "LEFT":
                return said, picture

    said, picture = talk(show(agent, "-w", "-h"), conversation)
    assert picture[:1] == web.FRAME
    assert np.asarray(Image.open(BytesIO(picture[1:]))).shape == (SIDE, SIDE, 3)
    assert ["you play", "left", "←", "LEFT"] in said["keys"]
    assert [name for name, *_ in said["bars"]] == ["NOOP", "FIRE", "RIGHT", "LEFT"]


def test_a_port_that_is_taken_is_named(agent: Path) -> None:
    with socket.socket() as taken:
        taken.bind((web.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError, match=f"--port {port}: .*another port"):
            web.serve(show(agent, "-w"), port=port)
