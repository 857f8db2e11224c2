"""What a session says of its present moment: the header's rows, the keys, and the scene to draw."""

from irisflow.viewer import keys
from irisflow.viewer.scene import Bar, Moment, Scene
from irisflow.viewer.session import Session
from irisflow.viewer.sources import ImaginedEnvironment, RealEnvironment, SavedEpisodes

MOST_ROWS = 10  # of the game's actions on the screen
PICTURE_NAMES = {
    "original": "original: as the emulator draws it",
    "downscaled": "downscaled: what the environment gives the agent",
    "agent": "what the agent sees: encoded to tokens and decoded",
}


def scene_of(session: Session, *, title: str, is_recording: bool = False) -> Scene:
    """Return the scene of the present moment."""
    moment, shown = session.moment, session.shown
    view = shown.view if shown.view in moment.pictures else "agent"
    is_imagined = isinstance(session.source, ImaginedEnvironment)
    changed = session.changed if shown.changes else None
    return Scene(
        title=title,
        source=session.source.name,
        player=_player(session),
        picture=moment.pictures[view],
        picture_name="imagined: decoded from predicted tokens" if is_imagined else PICTURE_NAMES[view],
        rate=session.rate,
        speed=session.speed,
        is_paused=session.is_paused,
        is_recording=is_recording,
        rows=_rows(session) if shown.header else _short_rows(session),
        bars=_bars(session) if shown.header else (),
        tokens=moment.tokens if shown.tokens else None,
        changed=changed,
        num_changed=None if changed is None else int(changed.sum()),
        futures=tuple(picture for _, picture in session.offer.futures),
        future_labels=tuple(_future_label(f.reward, f.end) for f, _ in session.offer.futures),
        question=session.question,
        status=_status(session),
        keys=key_rows(session),
    )


def key_rows(session: Session) -> tuple[tuple[str, str, str], ...]:
    """Return group, what is printed on the key, and meaning, of the keys that do something now and have room."""
    playing = playing_keys(session)
    rows = [(group, label, meaning) for group, _, label, meaning in playing]
    if len(rows) > MOST_ROWS:
        rest = len(rows) - MOST_ROWS + 1
        rows[MOST_ROWS - 1 :] = [(rows[0][0], "…", f"{rest} more actions")]
    return (*rows, *((b.group, keys.label(b.key), b.meaning) for b in keys.BINDINGS))


def playing_keys(session: Session) -> list[tuple[str, str, str, str]]:
    """Return group, keys, label and meaning of what plays the game or turns the pages of saved episodes.

    Keys that are pressed together are one word each.
    """
    if isinstance(session.source, SavedEpisodes):
        return [(b.group, b.key, keys.label(b.key), b.meaning) for b in keys.BROWSING]
    group = "you play" if session.is_person else "to play: press M"
    return [(group, " ".join(held), keys.label(*held), name) for held, name in session.keymap.table()]


def _player(session: Session) -> str:
    if isinstance(session.source, SavedEpisodes):
        return "recorded actions"
    return "you" if session.is_person else "agent"


def _short_rows(session: Session) -> tuple[tuple[str, str], ...]:
    return (*_time_rows(session), ("action", _action(session, session.moment)))


def _rows(session: Session) -> tuple[tuple[str, str], ...]:
    moment = session.moment
    is_imagined = isinstance(session.source, ImaginedEnvironment)
    rows = [*_time_rows(session), ("action", _action(session, moment))]
    if is_imagined:
        rows += [("predicted reward", f"{moment.reward:+g}"), ("predicted end", _yes(moment.end))]
    else:
        rows += [("reward", f"{moment.reward:+g}"), ("end", _yes(moment.is_over))]
    if isinstance(session.source, RealEnvironment):
        guess = moment.guess
        rows += [
            ("predicted reward", "-" if guess is None else f"{guess.reward:+g}"),
            ("predicted end", "-" if guess is None else _yes(guess.end)),
        ]
    if moment.thought is not None:
        rows += [
            ("value", f"{moment.thought.value:.3f}"),
            ("entropy", f"{moment.thought.entropy:.3f} nats"),
        ]
    return tuple(rows)


def _time_rows(session: Session) -> list[tuple[str, str]]:
    source = session.source
    if isinstance(source, SavedEpisodes):
        return [("step", str(source.index)), ("return", f"{source.total:g}")]
    rows = [("step", str(len(session.trajectory))), ("return", f"{session.trajectory.total:g}")]
    if isinstance(source, ImaginedEnvironment):
        used, window = source.fill
        rows.append(("horizon", str(session.horizon) if session.horizon else "no end"))
        rows.append(("window", f"{used} of {window} tokens" if window else f"{used} tokens, no limit"))
    return rows


def _bars(session: Session) -> tuple[Bar, ...]:
    """Return the policy's probabilities for the next action; the one that led here is marked."""
    thought = session.moment.thought
    if thought is None:
        return ()
    taken = session.moment.action
    return tuple(
        Bar(name, float(share), index == taken)
        for index, (name, share) in enumerate(zip(session.keymap.names, thought.probabilities, strict=True))
    )


def _action(session: Session, moment: Moment) -> str:
    return "-" if moment.action is None else session.keymap.names[moment.action]


def _status(session: Session) -> str:
    """Return the most important thing to say in one line."""
    source, moment = session.source, session.moment
    if session.offer.futures:
        name = session.keymap.names[session.offer.action]
        return f"{name}: pick a future, 1 to {len(session.offer.futures)}"
    if session.wants_futures and session.is_person and isinstance(source, ImaginedEnvironment):
        return "futures: press a key of the game, or N for no action"
    if isinstance(source, SavedEpisodes):
        return session.status or source.where
    if moment.end:
        return (
            "the world model predicts an end"
            if isinstance(source, ImaginedEnvironment)
            else "the game is over"
        )
    if moment.truncated:
        return "the time limit is reached"
    if (
        isinstance(source, ImaginedEnvironment)
        and session.horizon
        and session.imagined_steps >= session.horizon
    ):
        return f"the horizon of {session.horizon} steps is reached: back to real frames"
    return session.status or moment.remark


def _future_label(reward: float, end: bool) -> str:
    return f"{f'reward {reward:+g}' if reward else 'no reward'}{', end' if end else ''}"


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"
