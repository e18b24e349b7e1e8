"""Masks by Pillow, OpenCV, imageio, tifffile, and PNG files put together byte by byte."""

import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio.v3 as imageio
import numpy as np
import tifffile
from PIL import Image

# Of (file, labelIds (H, W) uint8, the color of each labelId (256, 3) uint8).
Write = Callable[[Path, np.ndarray, np.ndarray], object]


class Kind(NamedTuple):
    """
    Args:
        may: whether it may be refused.
    """

    suffix: str
    write: Write
    may: bool = False


RANDOM = np.random.default_rng(7).integers(0, 256, (256, 3)).astype(np.uint8)  # a palette that means nothing


def _pillow(mode: str, **options: object) -> Write:
    def write(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
        if mode in ("RGB", "RGBA"):
            picture = Image.fromarray(colors[ids]).convert(mode)
        elif mode == "I;16":
            picture = Image.fromarray(ids.astype(np.uint16))
        elif mode in ("I", "F"):
            picture = Image.fromarray(ids.astype({"I": np.int32, "F": np.float32}[mode]))
        else:
            picture = Image.fromarray(ids).convert(mode)
        picture.save(file, **options)

    return write


def _palette(of_classes: bool = False, **options: object) -> Write:
    def write(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
        picture = Image.fromarray(ids, "P")
        picture.putpalette((colors if of_classes else RANDOM).tobytes())
        picture.save(file, **options)

    return write


def _numbered_anew(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    Image.fromarray(colors[ids]).convert("P", palette=Image.Palette.ADAPTIVE).save(file)


def _short_palette(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    picture = Image.fromarray(ids, "P")
    picture.putpalette(RANDOM[: int(ids.max()) + 1].tobytes())
    picture.save(file, optimize=True)


def _gray_alpha(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    Image.merge("LA", [Image.fromarray(ids), Image.fromarray(np.full_like(ids, 128))]).save(file)


def _cv2(kind: str = "gray", dtype: str = "uint8", *options: int) -> Write:
    def write(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
        pixels = colors[ids][..., ::-1] if kind == "colors" else ids.astype(dtype)
        if kind == "alpha":
            pixels = np.dstack([colors[ids][..., ::-1], np.full(ids.shape, 255, np.uint8)])
        if kind == "three times":
            pixels = np.dstack([ids] * 3)
        file.write_bytes(cv2.imencode(file.suffix, pixels, options)[1].tobytes())

    return write


def _imageio(colored: bool = False, dtype: str = "uint8") -> Write:
    return lambda file, ids, colors: imageio.imwrite(file, colors[ids] if colored else ids.astype(dtype))


def _tif(dtype: str = "uint8", **options: object) -> Write:
    return lambda file, ids, colors: tifffile.imwrite(
        file, ids.astype(dtype), **{"photometric": "minisblack"} | options
    )


def _tif_palette(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    tifffile.imwrite(file, ids, photometric="palette", colormap=RANDOM.T.astype(np.uint16) * 257)


def _tif_colors(**options: object) -> Write:
    return lambda file, ids, colors: tifffile.imwrite(file, colors[ids], photometric="rgb", **options)


def _tif_planes(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    tifffile.imwrite(file, colors[ids].transpose(2, 0, 1), photometric="rgb", planarconfig="separate")


def _tif_pages(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    tifffile.imwrite(file, np.stack([ids, ids[::-1]]), photometric="minisblack")


def _tif_smaller(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
    with tifffile.TiffWriter(file) as writer:
        writer.write(ids, photometric="minisblack")
        writer.write(ids[::2, ::2], photometric="minisblack", subfiletype=1)


def _by_hand(bits: int, palette: bool = False, interlaced: bool = False) -> Write:
    """A PNG as an exporter of few bits writes it."""

    def write(file: Path, ids: np.ndarray, colors: np.ndarray) -> None:
        file.write_bytes(png(ids, bits, RANDOM[: 2 ** min(bits, 8)] if palette else None))

    return write


def png(numbers: np.ndarray, bits: int, palette: np.ndarray | None = None) -> bytes:
    """A gray PNG, or one with a palette, of 1, 2, 4, 8 or 16 bits."""
    height, width = numbers.shape
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in numbers]
    else:
        spread = (numbers[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = [np.packbits(row.ravel().astype(bool)).tobytes() for row in spread]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, 0 if palette is None else 3, 0, 0, 0)
    colors = b"" if palette is None else chunk(b"PLTE", palette.tobytes())
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + colors + body + chunk(b"IEND", b"")


KINDS: Mapping[str, Mapping[str, Kind]] = {
    "Pillow": {
        "png": Kind(".png", _pillow("L")),
        "png, palette": Kind(".png", _palette()),
        "png, palette of the classes' colors": Kind(".png", _palette(of_classes=True)),
        "png, palette, see-through": Kind(".png", _palette(transparency=1)),
        "png, short palette": Kind(".png", _short_palette),
        "png, palette numbered anew": Kind(".png", _numbered_anew, may=True),
        "png, colors": Kind(".png", _pillow("RGB")),
        "png, colors and alpha": Kind(".png", _pillow("RGBA")),
        "png, gray and alpha": Kind(".png", _gray_alpha, may=True),
        "png, 16 bits": Kind(".png", _pillow("I;16")),
        "png, described": Kind(".png", _pillow("L", dpi=(72, 72), optimize=True)),
        "bmp": Kind(".bmp", _pillow("L")),
        "bmp, palette": Kind(".bmp", _palette()),
        "bmp, colors": Kind(".bmp", _pillow("RGB")),
        "tif": Kind(".tif", _pillow("L")),
        "tif, LZW": Kind(".tiff", _pillow("L", compression="tiff_lzw")),
        "tif, deflate": Kind(".tif", _pillow("L", compression="tiff_adobe_deflate")),
        "tif, packbits": Kind(".tif", _pillow("L", compression="packbits")),
        "tif, jpeg": Kind(".tif", _pillow("L", compression="jpeg"), may=True),
        "tif, palette": Kind(".tif", _palette()),
        "tif, 16 bits": Kind(".tif", _pillow("I;16")),
        "tif, 32 bits": Kind(".tif", _pillow("I")),
        "tif, fractions": Kind(".tif", _pillow("F"), may=True),
        "tif, colors": Kind(".tif", _pillow("RGB")),
        "jpg": Kind(".jpg", _pillow("L", quality=95), may=True),
        "jpg, colors": Kind(".jpg", _pillow("RGB", quality=95), may=True),
        "webp": Kind(".webp", _pillow("RGB", quality=95), may=True),
        "webp, lossless": Kind(".webp", _pillow("RGB", lossless=True), may=True),
        "jpg that is named png": Kind(".png", _pillow("L", quality=95, format="JPEG"), may=True),
    },
    "OpenCV": {
        "png": Kind(".png", _cv2()),
        "png, 16 bits": Kind(".png", _cv2("gray", "uint16")),
        "png, colors": Kind(".png", _cv2("colors")),
        "png, colors and alpha": Kind(".png", _cv2("alpha")),
        "png, number in three channels": Kind(".png", _cv2("three times"), may=True),
        "tif": Kind(".tif", _cv2()),
        "tif, 16 bits": Kind(".tif", _cv2("gray", "uint16")),
        "tif, fractions": Kind(".tif", _cv2("gray", "float32"), may=True),
        "tif, colors": Kind(".tif", _cv2("colors")),
        "bmp": Kind(".bmp", _cv2()),
        "bmp, colors": Kind(".bmp", _cv2("colors")),
        "ppm, colors": Kind(".ppm", _cv2("colors"), may=True),
        "jpg": Kind(".jpg", _cv2(), may=True),
    },
    "imageio": {
        "png": Kind(".png", _imageio()),
        "png, 16 bits": Kind(".png", _imageio(dtype="uint16")),
        "png, colors": Kind(".png", _imageio(colored=True)),
        "bmp": Kind(".bmp", _imageio()),
        "tif": Kind(".tif", _imageio()),
        "tif, 16 bits": Kind(".tif", _imageio(dtype="uint16")),
        "tif, colors": Kind(".tif", _imageio(colored=True)),
    },
    "tifffile": {
        "tif": Kind(".tif", _tif()),
        "tif, big-endian": Kind(".tif", _tif("uint16", byteorder=">")),
        "tif, 16 bits": Kind(".tif", _tif("uint16")),
        "tif, signed 16 bits": Kind(".tif", _tif("int16"), may=True),
        "tif, 32 bits": Kind(".tif", _tif("int32")),
        "tif, unsigned 32 bits": Kind(".tif", _tif("uint32"), may=True),
        "tif, 32 bits, big-endian": Kind(".tif", _tif("int32", byteorder=">"), may=True),
        "tif, 64 bits": Kind(".tif", _tif("int64"), may=True),
        "tif, fractions": Kind(".tif", _tif("float32"), may=True),
        "tif, zlib": Kind(".tif", _tif(compression="zlib")),
        "tif, tiles": Kind(".tif", _tif(tile=(16, 16))),
        "tif, strips": Kind(".tif", _tif(rowsperstrip=5)),
        "tif, big": Kind(".tif", _tif(bigtiff=True)),
        "tif, ImageJ": Kind(".tif", _tif(imagej=True)),
        "tif, white is 0": Kind(".tif", _tif(photometric="miniswhite"), may=True),
        "tif, white is 0, 16 bits": Kind(".tif", _tif("uint16", photometric="miniswhite"), may=True),
        "tif, palette": Kind(".tif", _tif_palette),
        "tif, colors": Kind(".tif", _tif_colors()),
        "tif, colors, tiles": Kind(".tif", _tif_colors(tile=(16, 16))),
        "tif, colors in planes": Kind(".tif", _tif_planes, may=True),
        "tif, pages": Kind(".tif", _tif_pages, may=True),
        "tif, a smaller copy in it": Kind(".tif", _tif_smaller, may=True),
    },
    "a PNG exporter": {
        "png": Kind(".png", _by_hand(8)),
        "png, 2 bits": Kind(".png", _by_hand(2)),
        "png, 4 bits": Kind(".png", _by_hand(4)),
        "png, 16 bits": Kind(".png", _by_hand(16)),
        "png, palette of 2 bits": Kind(".png", _by_hand(2, palette=True)),
        "png, palette of 4 bits": Kind(".png", _by_hand(4, palette=True)),
        "png, palette": Kind(".png", _by_hand(8, palette=True)),
    },
}
# Of two classes without ignored pixels, numbers 0 and 1.
BLACK_AND_WHITE: Mapping[str, Kind] = {
    "png by Pillow": Kind(".png", lambda f, ids, _: Image.fromarray(ids.astype(bool)).save(f)),
    "png by OpenCV": Kind(
        ".png",
        lambda f, ids, _: f.write_bytes(cv2.imencode(".png", ids * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()),
    ),
    "png by hand": Kind(".png", _by_hand(1)),
    "png, palette": Kind(".png", _by_hand(1, palette=True)),
    "tif by Pillow": Kind(".tif", lambda f, ids, _: Image.fromarray(ids.astype(bool)).save(f)),
    "tif, group 4": Kind(".tif", lambda f, ids, _: Image.fromarray(ids.astype(bool)).save(f, compression="group4")),
    "tif by tifffile": Kind(".tif", _tif("bool")),
    "tif, white is 0": Kind(".tif", _tif("bool", photometric="miniswhite"), may=True),
    "bmp by Pillow": Kind(".bmp", lambda f, ids, _: Image.fromarray(ids.astype(bool)).save(f)),
}


def may(choice: str, library: str) -> frozenset[tuple[str, str]]:
    """Which values of a choice of kinds may be refused."""
    return frozenset((choice, name) for name, kind in KINDS[library].items() if kind.may)
