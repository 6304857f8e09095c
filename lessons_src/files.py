"""Files that are written whole, or not at all."""

import os
import threading
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: Path):
    """A file to write to, which takes the place of `path` when it is complete.

    Until then, and where the block raises, what stood there before stays. OSError where
    the disk refuses.
    """
    # In the same folder, because os.replace is atomic only within one disk; a name of its
    # own for each writer.
    name = f"{path.name}.{os.getpid()}-{threading.get_ident()}.part"
    beside = path.with_name(name)
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # on the disk, before the name points to it
        os.replace(beside, path)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
