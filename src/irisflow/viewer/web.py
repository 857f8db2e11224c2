"""`--web`: one page, on this machine only, on which the session is played in a browser."""

import asyncio
import json
import time
from collections.abc import Callable
from importlib.resources import files
from io import BytesIO
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web
from PIL import Image

from irisflow import interruption
from irisflow.errors import ResourceError
from irisflow.progress import say
from irisflow.viewer import keys
from irisflow.viewer.facts import playing_keys
from irisflow.viewer.scene import Picture, Scene
from irisflow.viewer.screen import frame, futures
from irisflow.viewer.show import Show

HOST = "127.0.0.1"
FRAME, FUTURES = b"\x00", b"\x01"  # the first byte of a picture's message
MOST_BYTES = 4096  # of what a browser says
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Message = str | bytes


def serve(
    show: Show, *, port: int, num_steps: int | None = None, ready: Callable[[str], None] | None = None
) -> None:
    """Serve the page until the person quits, or for so many steps. `ready` is called with its address.

    Raises ResourceError if the port is taken.
    """
    asyncio.run(Page(show, num_steps=num_steps).serve(port, ready or _announce))


class Page:
    """The page and those who look at it: all see and play the same session. Time stands still while nobody looks."""

    def __init__(self, show: Show, *, num_steps: int | None) -> None:
        self._show, self._num_steps = show, num_steps
        self._browsers: set[web.WebSocketResponse] = set()
        self._said: list[dict[str, Any]] = []
        self._port = 0

    async def serve(self, port: int, ready: Callable[[str], None]) -> None:
        """Open the port, and play."""
        app = web.Application()
        app.add_routes([web.get("/", self._page), web.get("/play", self._socket)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, port)
            try:
                await site.start()
            except OSError as error:
                raise ResourceError(
                    f"--port {port}: {HOST} is not free ({error.strerror}). Choose another port; 0 finds a free one."
                ) from None
            self._port = int(runner.addresses[0][1])
            ready(f"http://{HOST}:{self._port}/")
            await self._play()
        finally:
            for browser in list(self._browsers):
                await browser.close(code=WSCloseCode.GOING_AWAY, message=b"the session is over")
            await runner.cleanup()

    async def _play(self) -> None:
        session, due = self._show.session, time.monotonic()
        while not session.is_done and (self._num_steps is None or session.num_steps < self._num_steps):
            interruption.check()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + 1 / session.speed, time.monotonic())
            if self._browsers:
                said, self._said = self._said, []
                await self._tell(await asyncio.to_thread(self._step, said))

    def _step(self, said: list[dict[str, Any]]) -> list[Message]:
        """Take the keys, move on, and return what the browsers are to be told."""
        for message in said:
            hear(self._show, message)
        self._show.advance()
        scene = self._show.scene()
        pictures = [FRAME + png(frame(scene))]
        offered = futures(scene)
        if offered is not None:
            pictures.append(FUTURES + png(offered))
        return [json.dumps(facts(scene, self._show)), *pictures]

    async def _tell(self, messages: list[Message]) -> None:
        for browser in list(self._browsers):
            try:
                for message in messages:
                    if isinstance(message, str):
                        await browser.send_str(message)
                    else:
                        await browser.send_bytes(message)
            except ConnectionError:
                self._browsers.discard(browser)

    async def _page(self, request: web.Request) -> web.Response:
        self._check_host(request)
        text = files("irisflow.viewer").joinpath("page.html").read_text(encoding="utf-8")
        headers = {
            "Content-Security-Policy": POLICY,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
        }
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        self._check_host(request)
        if request.headers.get("Origin") not in self._origins():
            raise web.HTTPForbidden(text="only the page itself may play")
        browser = web.WebSocketResponse(max_msg_size=MOST_BYTES, heartbeat=30)
        await browser.prepare(request)
        self._browsers.add(browser)
        try:
            async for message in browser:
                if message.type is WSMsgType.TEXT and (said := understood(message.data)):
                    self._said.append(said)
        finally:
            self._browsers.discard(browser)
            self._said.append({"release": True})
        return browser

    def _check_host(self, request: web.Request) -> None:
        """Refuse a request that came by another name: a foreign page could have sent it."""
        if f"http://{request.host}" not in self._origins():
            raise web.HTTPForbidden(text="this page answers to its own address only")

    def _origins(self) -> tuple[str, ...]:
        return f"http://{HOST}:{self._port}", f"http://localhost:{self._port}"


def understood(text: str) -> dict[str, Any] | None:
    """Return what a browser said, None if it makes no sense."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_key = isinstance(said, dict) and any(isinstance(said.get(way), str) for way in ("down", "up"))
    return said if isinstance(said, dict) and (is_key or said.get("release") is True) else None


def hear(show: Show, said: dict[str, Any]) -> None:
    """Hand a browser's key to the session."""
    if isinstance(key := said.get("down"), str):
        show.session.key_down(key)
    elif isinstance(key := said.get("up"), str):
        show.session.key_up(key)
    else:
        show.session.release_all()


def facts(scene: Scene, show: Show) -> dict[str, Any]:
    """Return what stands beside the frame on the page."""
    return {
        "title": scene.title,
        "source": scene.source,
        "player": scene.player,
        "picture": scene.picture_name,
        "rate": round(scene.rate, 1),
        "speed": scene.speed,
        "paused": scene.is_paused,
        "recording": scene.is_recording,
        "rows": scene.rows,
        "bars": [[bar.name, round(bar.share, 4), bar.is_taken] for bar in scene.bars],
        "changed": scene.num_changed,
        "futures": len(scene.futures),
        "question": scene.question,
        "status": scene.status,
        "keys": [
            *playing_keys(show.session),
            *((b.group, b.key, keys.label(b.key), b.meaning) for b in keys.BINDINGS),
        ],
    }


def png(picture: Picture) -> bytes:
    """Return a picture as PNG, made quickly."""
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _announce(address: str) -> None:
    say(f"{address} plays it in a browser on this machine; Esc there or Ctrl-C here ends")
