"""Makes so many daemons as its argument says, in turns, while it works; each says whether anybody wrote to its files."""

import json
import os
import sys
import tempfile
from pathlib import Path

from busy import busy_function

busy = busy_function("busy_parent")
FILES = 8


def be_a_daemon(folder):
    """Close everything, open files, work for a moment, and leave 0 if nobody has touched them."""
    os.setsid()
    os.closerange(3, 256)
    files = [os.open(folder / f"{os.getpid()}-{number}", os.O_CREAT | os.O_RDWR) for number in range(FILES)]
    busy(0.02)
    touched = any(os.pread(file, 100, 0) for file in files)
    for file in files:
        os.close(file)
    for path in folder.glob(f"{os.getpid()}-*"):
        path.unlink()
    os._exit(touched)


def main(daemons):
    folder = Path(tempfile.mkdtemp())
    untouched = 0
    for _ in range(daemons):
        child = os.fork()
        if child == 0:
            try:
                be_a_daemon(folder)
            finally:
                os._exit(2)  # EBADF: somebody has closed a file
        busy(0.005)
        untouched += os.waitpid(child, 0)[1] == 0
    print(json.dumps({"untouched": untouched}))


main(int(sys.argv[1]))
