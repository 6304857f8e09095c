"""Work done in a process of its own, by another user, or until it is killed."""

import os
import pickle
import threading
import traceback

from tqdm import tqdm


def start_child(work, uid=None):
    """Run `work()` in a process of its own: its number, and where its result is read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest may run here: it ends by _exit, whatever happens
        tqdm.set_lock(
            threading.RLock()
        )  # not the one shared with a parent that outlives it
        try:
            if uid is not None:
                os.setgid(uid)
                os.setuid(uid)
            result = work()
        except BaseException:
            result = traceback.format_exc()
        with open(writing, "wb") as file:
            pickle.dump(result, file)
        os._exit(0)
    os.close(writing)
    return child, reading


def result_of(child, reading):
    """What the child's work returned; None where it was killed."""
    with open(reading, "rb") as file:
        content = file.read()
    os.waitpid(child, 0)
    return pickle.loads(content) if content else None
