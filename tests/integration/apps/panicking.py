"""Does what `steady.py` does, after it has said, where the agent speaks, that a thread of the agent's has panicked."""

import runpy
from pathlib import Path

own = Path("/proc/self/fd/2").readlink()
for descriptor in Path("/proc/self/task").glob("*/fd/2"):
    if descriptor.readlink() != own:
        break
with open(descriptor, "wb", buffering=0) as said:  # noqa: PTH123 - a pipe
    said.write(b"\nthread '<unnamed>' panicked at src/sampler.rs:1:2:\nthe test wants it\n")
runpy.run_path(str(Path(__file__).parent / "steady.py"), run_name="__main__")
