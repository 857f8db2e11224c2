"""What surrounds one run by hand: its folder, its media, where its numbers go, its display, its evaluation."""
