"""Text from elsewhere as a terminal may be shown it: names come from the network, values from the environment."""


def printable(text: str) -> str:
    """Return `text` with an escape for each character that a terminal would obey, or that an encoding may lack."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
