"""PNG files without a library: the book is built where Pillow is not installed."""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
KINDS = {1: 0, 3: 2, 4: 6}  # channels -> PNG's colour type: grey, RGB, RGB with alpha


def written(pixels: bytes, width: int, channels: int) -> bytes:
    """A PNG file of 8-bit pixels, row by row; channels: 1 grey, 3 RGB, 4 RGBA."""
    stride = width * channels
    rows = [pixels[at : at + stride] for at in range(0, len(pixels), stride)]
    head = struct.pack(">IIBBBBB", width, len(rows), 8, KINDS[channels], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    parts = [(b"IHDR", head), (b"IDAT", body), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(name, data) for name, data in parts)


def chunk(name: bytes, data: bytes) -> bytes:
    """One part of a PNG file: its length, name, data and checksum."""
    return (
        struct.pack(">I", len(data))
        + name
        + data
        + struct.pack(">I", zlib.crc32(name + data))
    )


def chunks(file: bytes) -> dict[bytes, bytes]:
    """The parts of a PNG file by name, those of one name joined."""
    found, at = {}, len(SIGNATURE)
    while at < len(file):
        (length,) = struct.unpack_from(">I", file, at)
        name = file[at + 4 : at + 8]
        found[name] = found.get(name, b"") + file[at + 8 : at + 8 + length]
        at += 12 + length
    return found


def reduced(file: bytes, factor: int) -> bytes:
    """A picture `factor` times smaller each way, each pixel the mean of a square.

    For what `figures` stores: 8-bit indices into a palette, rows not filtered.
    ValueError on another form.
    """
    found = chunks(file)
    width, height, depth, kind, *_ = struct.unpack(">IIBBBBB", found[b"IHDR"])
    data = zlib.decompress(found[b"IDAT"])
    rows = [data[k * (width + 1) : (k + 1) * (width + 1)] for k in range(height)]
    if (depth, kind) != (8, 3) or any(row[0] for row in rows):
        raise ValueError("not a picture of 8-bit indices without filters")
    palette = found[b"PLTE"]
    colours = [palette[k::3].ljust(256, b"\0") for k in range(3)]
    across, down = width // factor, height // factor
    planes = [[row[1:].translate(colour) for row in rows] for colour in colours]
    small = bytearray(3 * across * down)
    for channel, plane in enumerate(planes):
        for y in range(down):
            square = plane[y * factor : (y + 1) * factor]
            parts = [row[k::factor][:across] for row in square for k in range(factor)]
            line = bytes(sum(pixel) // factor**2 for pixel in zip(*parts, strict=True))
            small[channel + 3 * across * y : 3 * across * (y + 1) : 3] = line
    return written(bytes(small), across, 3)
