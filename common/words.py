"""Numbers in words."""


def some(count: int, noun: str) -> str:
    """Return "1 image", or "3 images"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
