"""Situations in which a law was once broken, as `search` printed them."""

FOUND: list[str] = []
