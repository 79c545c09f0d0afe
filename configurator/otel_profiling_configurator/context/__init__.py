"""When labels change: attach and detach, and whatever else switches the current context of a thread."""
