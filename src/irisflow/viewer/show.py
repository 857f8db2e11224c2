"""A session with its picture and its recording: what the window, the film and the page drive."""

from pathlib import Path

from irisflow.viewer.facts import scene_of
from irisflow.viewer.recording import NPZ_AT_MOST, Recording
from irisflow.viewer.scene import Picture, Scene
from irisflow.viewer.screen import draw
from irisflow.viewer.session import Session
from irisflow.viewer.sources import ImaginedEnvironment


class Show:
    """Moves a session on, draws it, and records it while the person wants that."""

    def __init__(self, session: Session, *, title: str, recordings: Path) -> None:
        self.session, self._title, self._recordings = session, title, recordings
        self._recording: Recording | None = None

    def scene(self) -> Scene:
        """Return what is to be drawn now."""
        return scene_of(self.session, title=self._title, is_recording=self._recording is not None)

    def advance(self) -> bool:
        """Move on by one step if time runs, record it, and return whether the moment changed."""
        self._keep_up()
        has_changed = self.session.tick()
        if has_changed and self._recording is not None:
            self._record(self._recording, draw(self.scene()))
        return has_changed

    def picture(self) -> Picture:
        """Return the whole picture of the present moment."""
        return draw(self.scene())

    def close(self) -> str:
        """Finish what is being recorded and return what to tell of it."""
        recording, self._recording = self._recording, None
        return "" if recording is None else recording.close()

    def _keep_up(self) -> None:
        """Start or finish a recording as the person wants."""
        if self.session.wants_recording and self._recording is None:
            self._recording = Recording(self._recordings, fps=self.session.speed)
            self._record(self._recording, draw(self.scene()))
        elif not self.session.wants_recording and self._recording is not None:
            self.session.status = self.close()

    def _record(self, recording: Recording, picture: Picture) -> None:
        is_imagined = isinstance(self.session.source, ImaginedEnvironment)
        recording.add(picture, self.session.moment, is_imagined=is_imagined)
        if len(recording) >= NPZ_AT_MOST:
            self.session.wants_recording = False
