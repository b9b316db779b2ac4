"""A corpus for the decoder, made here: every mode and format, and files that no camera makes."""

import contextlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

MEGABYTE = 1 << 20


def photograph(width: int, height: int) -> Image.Image:
    """Smooth colours with noise, so that compressed files have some length."""
    dice = np.random.default_rng(3)
    across, down = np.meshgrid(np.linspace(0, 180, width), np.linspace(0, 180, height))
    levels = np.stack([across, down, 180 - across], axis=2) + dice.integers(0, 70, (height, width, 3))
    return Image.fromarray(levels.astype(np.uint8))


def file_of(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def compressed_zeros(count: int) -> bytes:
    """What decompresses to so many zeros."""
    squeeze = zlib.compressobj(9)
    whole, rest = divmod(count, MEGABYTE)
    pieces = [squeeze.compress(bytes(MEGABYTE)) for _ in range(whole)]
    return b"".join(pieces) + squeeze.compress(bytes(rest)) + squeeze.flush()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, bits: int = 8, colour: int = 0, extra: bytes = b"") -> bytes:
    """A PNG of grey (or another colour type) whose decompressed pixels are whatever ``pixels`` holds."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(tags: Mapping[int, int], data: bytes = b"") -> bytes:
    """A little-endian TIFF with one directory; a tag of value -1 holds the place of the data."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = [(tag, start if value == -1 else value) for tag, value in sorted(tags.items())]
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + data


def grey_tiff(width: int, height: int, data: bytes, **tags: int) -> bytes:
    layout = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    strips = {} if tags else {273: -1, 278: height, 279: len(data)}
    return tiff(layout | strips | {int(tag[1:]): value for tag, value in tags.items()}, data)


def progressive_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    whole = file_of(Image.new("L", (512, 512), 128), "JPEG", progressive=True)
    end = whole.rindex(b"\xff\xd9")
    last = whole[whole.rindex(b"\xff\xc4", 0, whole.rindex(b"\xff\xda")) : end]
    return whole[:end] + last * count + b"\xff\xd9"


def gif_frame(screen: int, side: int) -> bytes:
    frame = b"!\xf9\4\x08\0\0\0\0," + struct.pack("<HHHH", 0, 0, side, side) + b"\0\2\2\x44\1\0;"
    return b"GIF89a" + struct.pack("<HH", screen, screen) + b"\x80\0\0" + b"\0" * 6 + frame


def icon(inner: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def postscript() -> bytes:
    """A file that Pillow hands to Ghostscript, which runs whatever it says."""
    return file_of(photograph(10, 10), "EPS")


def iptc(inner: bytes) -> bytes:
    """An IPTC file; Pillow would open what is inside as a file of any format."""
    parts = [((3, 20), b"\0\0\0\x0a"), ((3, 30), b"\0\0\0\x0a"), ((3, 60), b"\1\0"), ((3, 65), b"\1")]
    parts += [((3, 120), b"\0\0\0\5"), ((8, 10), inner)]
    return b"".join(b"\x1c" + bytes(tag) + struct.pack(">H", len(data)) + data for tag, data in parts)


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B")
"""Those that some format can hold."""
WRITABLE = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM", "TGA", "SGI", "PCX", "QOI", "DDS")


def every_mode_of_every_format() -> Iterator[tuple[str, bytes]]:
    """A picture of 31 x 17 pixels in each mode that each format can hold."""
    for mode in MODES:
        for file_format in WRITABLE:
            picture = Image.new(mode, (31, 17))
            with contextlib.suppress(OSError, ValueError, KeyError):
                yield f"{file_format} of mode {mode}", file_of(picture, file_format)


def cut_up() -> dict[str, bytes]:
    """Files of some kilobytes, whole."""
    picture = photograph(160, 120)
    frames = [picture.rotate(angle) for angle in (90, 180)]
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description " * 50
    return {
        "PNG": file_of(picture, "PNG", exif=exif),
        "animated PNG": file_of(picture, "PNG", save_all=True, append_images=frames),
        "PNG of 16 bits": file_of(
            Image.fromarray(np.arange(19200, dtype=np.uint16).reshape(120, 160)), "PNG"
        ),
        "JPEG": file_of(picture, "JPEG", quality=95, exif=exif),
        "progressive JPEG": file_of(picture, "JPEG", quality=95, progressive=True),
        "JPEG of CMYK": file_of(picture.convert("CMYK"), "JPEG", quality=90),
        "GIF": file_of(picture, "GIF", save_all=True, append_images=frames),
        "WebP": file_of(picture, "WEBP", quality=95),
        "animated WebP": file_of(picture, "WEBP", save_all=True, append_images=frames, lossless=True),
        "TIFF": file_of(picture, "TIFF"),
        "TIFF of LZW": file_of(picture, "TIFF", compression="tiff_lzw"),
        "TIFF of JPEG": file_of(picture, "TIFF", compression="jpeg"),
        "JPEG2000": file_of(picture, "JPEG2000"),
        "BMP": file_of(picture, "BMP"),
        "PPM": file_of(picture, "PPM"),
        "TGA": file_of(picture, "TGA", compression="tga_rle"),
        "SGI": file_of(picture, "SGI"),
        "PCX": file_of(picture, "PCX"),
        "QOI": file_of(picture, "QOI"),
    }


TOO_MANY = "pixels; at most 200000000 pixels are decoded"
NOT_READ = "is not a picture in a format that is read here: PNG, JPEG"
DAMAGED = "cannot be decoded: the file is damaged or cut off"
CUT_OFF = "ends too early: the file is truncated"
BAD_HEADER = "header is damaged or cut off"

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "PNG of 60000 x 60000": (lambda: png(60_000, 60_000, compressed_zeros(99)), TOO_MANY),
    "PNG of 4 billion x 1": (lambda: png(2**31 - 1, 1, b""), TOO_MANY),
    "PNG of 1 x 2 million": (lambda: png(1, 2_000_000, b""), "a side may have at most 1048576"),
    "PNG of 2 million x 1": (lambda: png(2_000_000, 1, b""), "a side may have at most 1048576"),
    "PNG of 0 x 0": (lambda: png(0, 0, b""), BAD_HEADER),
    "PNG without pixels": (lambda: png(9, 9, b""), CUT_OFF),
    "PNG with a text of 16 MB": (
        lambda: png(4, 4, b"", extra=chunk(b"zTXt", b"k\0\0" + compressed_zeros(16 * MEGABYTE))),
        DAMAGED,
    ),
    "PNG with an international text of 16 MB": (
        lambda: png(4, 4, b"", extra=chunk(b"iTXt", b"k\0\1\0\0\0" + compressed_zeros(16 * MEGABYTE))),
        DAMAGED,
    ),
    "PNG with a profile of 16 MB": (
        lambda: png(4, 4, b"", extra=chunk(b"iCCP", b"k\0\0" + compressed_zeros(16 * MEGABYTE))),
        DAMAGED,
    ),
    "PNG with 70 MB of texts": (
        lambda: png(4, 4, b"", extra=chunk(b"tEXt", b"k\0" + b"x" * MEGABYTE) * 70),
        DAMAGED,
    ),
    "GIF of 65535 x 65535": (lambda: gif_frame(65535, 4), TOO_MANY),
    "GIF with a frame beyond its screen": (lambda: gif_frame(10, 65535), "too large to decode"),
    "TIFF of 60000 x 60000": (lambda: grey_tiff(60_000, 60_000, b""), TOO_MANY),
    "TIFF of 1 x 200 million": (lambda: grey_tiff(1, 200_000_000, b""), "a side may have at most"),
    "TIFF with a tile of 30000 x 30000": (
        lambda: grey_tiff(10, 10, b"", t322=30_000, t323=30_000, t324=-1, t325=9),
        "has tiles of 30000 x 30000 pixels for a picture of 10 x 10",
    ),
    "TIFF with a tile of 4 billion x 16": (
        lambda: grey_tiff(10, 10, b"", t322=2**32 - 1, t323=16, t324=-1, t325=9),
        "has tiles of 4294967295 x 16 pixels",
    ),
    "TIFF with a strip of no bytes": (lambda: grey_tiff(10, 10, b""), DAMAGED),
    "TIFF with 65535 samples": (lambda: grey_tiff(10, 10, b"0", t277=65535, t273=-1, t279=1), BAD_HEADER),
    "JPEG of 65500 x 65500": (
        lambda: file_of(Image.new("L", (8, 8)), "JPEG").replace(b"\0\x08\0\x08", b"\xff\xdc\xff\xdc"),
        TOO_MANY,
    ),
    "JPEG of 1000 scans": (lambda: progressive_scans(1000), "is a JPEG of 1006 scans"),
    "JPEG of 30000 segments": (
        lambda: b"\xff\xd8" + b"\xff\xfe\0\2" * 30_000 + file_of(Image.new("L", (8, 8)), "JPEG")[2:],
        "20000 segments; at most 100 and 20000 are decoded",
    ),
    "BMP of 60000 x 60000": (
        lambda: b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
        TOO_MANY,
    ),
    "PPM of 60000 x 60000": (lambda: b"P6 60000 60000 255\n", TOO_MANY),
    "PPM of 10^400 pixels": (lambda: b"P6 1" + b"0" * 400 + b" 1 255\n", DAMAGED),
    "WebP of 16383 x 16383": (
        lambda: (
            b"RIFF\x1c\0\0\0WEBPVP8L\x0f\0\0\0/\xfe\xbf\xff\x0f\x07\x10\x11\xfd\x0f\x08\x04\x92\xfd\xb5\x87\0"
        ),
        TOO_MANY,
    ),
    "icon with a PNG of 20000 x 20000": (lambda: icon(png(20_000, 20_000, b"")), NOT_READ),
    "PostScript": (postscript, NOT_READ),
    "PostScript in an IPTC file": (lambda: iptc(postscript()), NOT_READ),
    "FITS": (lambda: b"SIMPLE  =                    T".ljust(2880), NOT_READ),
    "WMF": (lambda: b"\xd7\xcd\xc6\x9a" + bytes(100), NOT_READ),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), NOT_READ),
    "SVG": (
        lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        NOT_READ,
    ),
    "environment": (lambda: b"AWS_SECRET_ACCESS_KEY=SECRET\0PATH=/bin\0", NOT_READ),
    "credentials": (lambda: b"[default]\naws_secret_access_key = SECRET\n" * 5, NOT_READ),
    "PPM of credentials": (lambda: b"P6 SECRET_SECRET_SECRET 5 255\n", DAMAGED),
}
"""Files that are refused, and part of what is said of each."""
