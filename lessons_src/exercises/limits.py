"""A time limit for code that may never end."""

import contextlib
import ctypes
import signal
import threading


class TooLong(BaseException):
    """Raised in the code that took too long; no `except Exception` of it stops that."""


@contextlib.contextmanager
def seconds(limit: float):
    """Raise `TooLong` in the code of this block after so many seconds, again and again
    until it ends.

    By a signal, which also ends a sleep. Where no signal can be had (Windows, a thread),
    by an exception set from another thread, which loops notice and a sleep does not.
    """
    if hasattr(signal, "setitimer") and is_main_thread():
        stop = by_signal(limit)
    else:
        stop = by_thread(limit)
    try:
        yield
    finally:
        try:
            stop()
        except TooLong:  # one that was on its way interrupted `stop` itself
            stop()
            raise


def is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def by_signal(limit):
    """Start the timer of this process; what stops it."""

    def end(*_):
        raise TooLong(f"{limit:g}")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit, 1.0)

    def stop():
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    return stop


def by_thread(limit):
    """Start a thread that waits; what stops it."""
    ended, lock = threading.Event(), threading.RLock()
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    at_once = type("TooLong", (TooLong,), {"__str__": lambda self: f"{limit:g}"})

    def wait():
        while not ended.wait(limit):
            with lock:
                if not ended.is_set():
                    raise_in(thread, ctypes.py_object(at_once))

    def stop():
        with lock:  # from here on nothing is raised, nor what waits to be
            ended.set()
            raise_in(thread, None)

    threading.Thread(target=wait, daemon=True).start()
    return stop
