"""A broker that is a folder, in which messages appear as a whole.

kombu (5.6) makes the file and then writes it: a worker that looks in between takes an empty message, and ends.
"""

import tempfile
from pathlib import Path

from kombu.transport import filesystem


class Channel(filesystem.Channel):
    def _put(self, queue, payload, **kwargs):
        inbox = Path(self.data_folder_in)
        with tempfile.TemporaryDirectory(dir=inbox.parent) as folder:
            self.data_folder_out = folder
            super()._put(queue, payload, **kwargs)
            (message,) = Path(folder).iterdir()
            message.rename(inbox / message.name)


filesystem.Transport.Channel = Channel
