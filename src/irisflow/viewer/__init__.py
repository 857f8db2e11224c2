"""The viewer: an agent and its world model to watch and to play, in a window, a film or a page."""
