"""Published files, each verified by its SHA-256.

A file is read from the disk where it is whole there, and else from the first of several
mirrors that sends it in time.
"""

import hashlib
import os
import threading
import zlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from lessons_src.files import atomic_write

TIMEOUT = 10  # seconds to connect and between two packets
SLOWEST = 10_000  # bytes a second: a mirror that hangs or drips is left for the next
LARGEST = 2**26  # bytes: more than twice the largest file


class DataError(RuntimeError):
    """No verified copy of a data set could be had; the message says why."""


def unpacked(path: Path, sha256: str, source: dict) -> bytearray:
    """A published file's content: from the disk, where it is whole, else from a mirror."""
    try:
        packed, problem = path.read_bytes(), "is damaged"
    except FileNotFoundError:
        packed, problem = b"", "is missing"
    except OSError as error:  # a folder, or not to be read
        packed, problem = b"", f"cannot be read ({error.strerror})"
    if hashlib.sha256(packed).hexdigest() != sha256:
        packed = _downloaded(path, sha256, source, problem)
    return bytearray(zlib.decompress(packed, wbits=31))


def _downloaded(path: Path, sha256: str, source: dict, problem: str) -> bytearray:
    """A file from the first mirror that has it, verified; kept where that is possible."""
    mirrors, problems = source["mirrors"], []
    if own := os.environ.get("LESSONS_MIRROR"):
        mirrors = (f"{own.rstrip('/')}/{source['folder']}/", *mirrors)
    for mirror in mirrors:
        try:
            if not mirror.startswith(("http://", "https://")):
                raise OSError("LESSONS_MIRROR must begin with http:// or https://")
            packed = _fetched(mirror + path.name)
            if hashlib.sha256(packed).hexdigest() != sha256:
                raise OSError("it sent something else")
        except OSError as error:
            problems.append(f"{urlsplit(mirror).netloc or mirror}: {error}")
            continue
        with suppress(OSError):  # no space, no permission: it is fetched again next time
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(packed)
        return packed
    raise DataError(
        f"{path} {problem}, and no mirror gave a good copy ({'; '.join(problems)}).\n"
        f"  To use the real data, put the four .gz files into {path.parent}, or set "
        "LESSONS_MIRROR."
    )


def _fetched(url: str) -> bytearray:
    """The bytes at an address; OSError for none, too many, or too few a second."""
    content, errors = bytearray(), []
    thread = threading.Thread(target=_fetch, args=(url, content, errors), daemon=True)
    thread.start()
    while thread.is_alive():
        before = len(content)
        thread.join(TIMEOUT)
        if thread.is_alive() and len(content) - before < SLOWEST * TIMEOUT:
            raise OSError("too slow")  # the thread ends with the process
    if errors:
        raise OSError(*errors)
    return content


def _fetch(url: str, content: bytearray, errors: list[str]) -> None:
    import requests  # not needed where the files are there already

    headers = {"Accept-Encoding": "identity"}  # the bytes as they lie on the mirror
    try:
        answer = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        if answer.status_code != 200:
            raise OSError(f"status {answer.status_code}")
        size = int(answer.headers.get("Content-Length", 0))
        with tqdm(total=size, unit="B", unit_scale=True, leave=False) as bar:
            for part in answer.raw.stream(2**13, decode_content=False):
                content.extend(part)
                bar.update(len(part))
                if len(content) > LARGEST:
                    raise OSError("too large")
    except Exception as error:  # of any kind: the next mirror may be better
        errors.append(str(error) if type(error) is OSError else type(error).__name__)
