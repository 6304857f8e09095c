"""Kernels in less time: forked from a process that has imported what most lessons import.

An ordinary kernel spends 4 to 5 seconds of a processor on imports before its lesson's
first line runs. Here one process, the stem, imports these libraries for each worker and
does nothing else: it makes no thread, draws no number, computes nothing. A kernel is a
fork of it, with the surroundings that an ordinary kernel would have: arguments,
environment, folder, files, session. What a lesson imports from `lessons_src`, it still
imports by itself.

There is no stem, and kernels start as they always did, where fork is not safe: on other
systems than Linux, with a GPU, with more than one thread, or where importing the
libraries says something that a reader would see.
"""

import functools
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec

from jupyter_client.launcher import launch_kernel as launch_ordinary
from jupyter_client.provisioning import local_provisioner

LIBRARIES = [  # torch._dynamo: the first optimizer of a process imports it
    *("ipykernel.kernelapp", "numpy.random", "matplotlib.figure", "torch"),
    *("torch._dynamo", "torch.utils.data"),
]
GPUS = ("/dev/nvidiactl", "/dev/kfd")
LARGEST = 2**20  # bytes of a request: arguments and environment
PATIENCE = 120  # seconds for the stem to import, on a machine with other work


def forks_are_safe() -> bool:
    """Before a stem is started; it looks at its own threads by itself."""
    return sys.platform == "linux" and not any(map(os.path.exists, GPUS))


class Stem:
    """The process that has imported the libraries, seen from pytest. It starts with the
    first question, in the environment in which it was made."""

    def __init__(self, libraries=LIBRARIES):
        self.libraries = libraries
        self.environment = lasting(os.environ)
        self.process = self.line = None
        self.is_sound = forks_are_safe()
        self.turn = threading.Lock()  # one question at a time

    def fits(self, command, environment, *others) -> bool:
        """Whether it can fork what this command starts, given nothing else."""
        is_kernel = command[:3] == [sys.executable, "-m", "ipykernel_launcher"]
        is_same = lasting(environment) == self.environment
        return self.is_sound and is_kernel and is_same and not any(others)

    def start(self):
        self.line, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self.line.settimeout(PATIENCE)
        with theirs, tempfile.TemporaryFile() as said:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), *self.libraries],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def ask(self, files=(), **question):
        """Its answer; files go with a question. OSError: there is no stem (any more)."""
        with self.turn:
            if self.process is None:
                self.start()
            socket.send_fds(self.line, [json.dumps(question).encode()], files)
            if answer := self.line.recv(LARGEST):
                return json.loads(answer)
        raise ConnectionError("the stem has ended")

    def close(self):
        """End it, and with it the kernels that were forked from it."""
        self.is_sound = False
        if self.process is not None:
            self.line.shutdown(socket.SHUT_RDWR)  # in every process that holds it
            self.line.close()
            self.process.wait()


class Forked:
    """A kernel that was forked: what jupyter_client asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, stem: Stem, pid: int):
        self.stem, self.pid, self.returncode = stem, pid, None

    def poll(self):
        if self.returncode is None:
            try:
                self.returncode = self.stem.ask(status_of=self.pid)
            except OSError:  # no stem: its kernels end with it
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout=None):
        end = time.monotonic() + (float("inf") if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("a forked kernel", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def lasting(environment) -> dict:
    """Without what is set anew for each test or kernel, and no library reads."""
    passing = ("PYTEST_", "JPY_")
    return {k: v for k, v in environment.items() if not k.startswith(passing)}


def launch(
    stem, command, cwd=None, env=None, stdin=None, stdout=None, stderr=None, **rest
):
    """In the place of jupyter_client's `launch_kernel`: a fork of the stem where it fits."""
    env = dict(os.environ if env is None else env)
    pid = None
    if stem.fits(command, env, stdin, rest):
        place = {"cwd": str(cwd or os.getcwd()), "environment": env}
        with open(os.devnull, encoding="utf-8") as nothing:
            files = [nothing, stdout or 1, stderr or 2]
            files = [file if isinstance(file, int) else file.fileno() for file in files]
            try:
                pid = stem.ask(files, arguments=command[3:], **place)
            except OSError:
                stem.is_sound = False
    if pid is not None:
        return Forked(stem, pid)
    files = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
    return launch_ordinary(command, cwd=cwd, env=env, **files, **rest)


def start_by_forking() -> Stem:
    """From here on, in this process."""
    stem = Stem()
    local_provisioner.launch_kernel = functools.partial(launch, stem)
    return stem


# ---- in the stem ----


def import_libraries(names: list[str]) -> bool:
    """Import them as a kernel does. Whether forks are safe, and nothing was said."""
    if sys.path[0] == os.path.dirname(__file__):
        del sys.path[0]  # as ipykernel_launcher does with the folder it starts in
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # which ipykernel reads now
    if not os.environ.get("MPLBACKEND"):  # which ipykernel sets, and matplotlib reads now
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for name in names:
        importlib.import_module(name)
    sys.stdout.flush()
    sys.stderr.flush()
    threads = os.listdir("/proc/self/task")
    return len(threads) == 1 and os.fstat(1).st_size == 0


def surround(arguments, cwd, environment, files):
    """Make this fork what an ordinary kernel is when its first line runs."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment, JPY_PARENT_PID=str(os.getppid()))
    sys.argv = [find_spec("ipykernel_launcher").origin, *arguments]
    # Python's own generator is seeded at each fork; the others would draw the same in all.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.seed()


def answer(line: socket.socket):
    """Fork a kernel at each request, and tell how forked ones ended, until pytest ends.
    Return in a kernel only, and True."""
    while True:
        message, files, _, _ = socket.recv_fds(line, LARGEST, 3)
        if not message:
            return False
        question = json.loads(message)
        if "status_of" in question:
            pid, status = os.waitpid(question["status_of"], os.WNOHANG)
            ended = os.waitstatus_to_exitcode(status) if pid else None
            line.send(json.dumps(ended).encode())
        elif os.fork() == 0:
            try:
                surround(**question, files=files)
                line.send(json.dumps(os.getpid()).encode())
            except BaseException:  # nothing of the stem's may run here
                line.send(b"null")
                os._exit(1)
            return True
        for file in files:
            os.close(file)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as line:
        is_kernel = import_libraries(sys.argv[2:]) and answer(line)
    if is_kernel:
        from ipykernel import kernelapp

        kernelapp.launch_new_instance()
