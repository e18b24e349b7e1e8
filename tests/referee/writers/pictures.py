"""Images by Pillow, OpenCV, imageio and tifffile, in every way in which pixels may lie in a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio.v3 as imageio
import numpy as np
import tifffile
from PIL import Image

ORIENTATION = 0x0112  # EXIF tag


class Kind(NamedTuple):
    """
    Args:
        suffix: of the file.
        write: of (file, RGB pixels (H, W, 3)).
        exact: whether it holds these pixels; else the reference is what Pillow reads.
        may: whether it may be refused.
    """

    suffix: str
    write: Callable[[Path, np.ndarray], object]
    exact: bool = True
    may: bool = False


def _pillow(mode: str = "RGB", **options: object) -> Callable[[Path, np.ndarray], object]:
    return lambda file, rgb: Image.fromarray(rgb).convert(mode).save(file, **options)


def _named(form: str, mode: str = "RGB") -> Callable[[Path, np.ndarray], object]:
    """A file whose name says another format than it has."""
    return lambda file, rgb: Image.fromarray(rgb).convert(mode).save(file, format=form)


def _gray(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L"))


def _alpha(file: Path, rgb: np.ndarray) -> None:
    alpha = np.arange(rgb[..., 0].size).reshape(rgb.shape[:2]) % 256
    Image.fromarray(np.dstack([rgb, alpha.astype(np.uint8)])).save(file)


def _see_through(file: Path, rgb: np.ndarray) -> None:
    picture = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE)
    picture.save(file, transparency=3)


def _turned(orientation: int) -> Callable[[Path, np.ndarray], object]:
    """Pixels as the camera held them, and the mark that says how; shown, they are the given ones."""

    def write(file: Path, rgb: np.ndarray) -> None:
        stored = np.rot90(rgb, 1) if orientation == 6 else np.rot90(rgb, 2)
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif)

    return write


def _cv2(*options: int) -> Callable[[Path, np.ndarray], object]:
    # Through bytes: imwrite takes no name with letters that the system's encoding lacks.
    return lambda file, rgb: file.write_bytes(cv2.imencode(file.suffix, rgb[..., ::-1], options)[1].tobytes())


def _cv2_alpha(file: Path, rgb: np.ndarray) -> None:
    bgra = np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 90, np.uint8)])
    file.write_bytes(cv2.imencode(file.suffix, bgra)[1].tobytes())


def _cv2_deep(file: Path, rgb: np.ndarray) -> None:
    file.write_bytes(cv2.imencode(file.suffix, rgb[..., ::-1].astype(np.uint16) * 7)[1].tobytes())


def _tif(**options: object) -> Callable[[Path, np.ndarray], object]:
    return lambda file, rgb: tifffile.imwrite(file, rgb, photometric="rgb", **options)


def _tif_planes(file: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(file, rgb.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")


def _tif_bands(file: Path, rgb: np.ndarray) -> None:
    near_infrared = 255 - rgb[..., :1]
    tifffile.imwrite(file, np.dstack([rgb, near_infrared]), photometric="rgb", extrasamples=["unspecified"])


def _tif_pages(file: Path, rgb: np.ndarray) -> None:
    tifffile.imwrite(file, np.stack([rgb, 255 - rgb]), photometric="rgb")


KINDS: Mapping[str, Mapping[str, Kind]] = {
    "Pillow": {
        "png": Kind(".png", _pillow()),
        "jpg": Kind(".jpg", _pillow(quality=90), exact=False),
        "jpg, progressive": Kind(".jpg", _pillow(progressive=True), exact=False),
        "jpg, 4:4:4": Kind(".jpeg", _pillow(subsampling=0, quality=95), exact=False),
        "jpg, gray": Kind(".jpg", _pillow("L"), exact=False),
        "jpg, CMYK": Kind(".jpg", _pillow("CMYK"), exact=False, may=True),
        "JPG in capitals": Kind(".JPG", _named("JPEG"), exact=False),
        "jpg, resolution": Kind(".jpg", _pillow(dpi=(300, 300)), exact=False),
        "png that is named jpg": Kind(".jpg", _named("PNG")),
        "png, gray": Kind(".png", _pillow("L"), exact=False),
        "png, palette": Kind(".png", lambda f, rgb: Image.fromarray(rgb).quantize(16).save(f), exact=False),
        "png, palette, see-through": Kind(".png", _see_through, exact=False),
        "png, alpha": Kind(".png", _alpha),
        "png, gray and alpha": Kind(".png", _pillow("LA"), exact=False),
        "png, 1 bit": Kind(".png", _pillow("1"), exact=False),
        "png, 16 bits": Kind(".png", _pillow("I;16"), exact=False, may=True),
        "bmp": Kind(".bmp", _pillow()),
        "bmp, palette": Kind(".bmp", lambda f, rgb: Image.fromarray(rgb).quantize(64).save(f), exact=False),
        "tif": Kind(".tif", _pillow()),
        "tif, LZW": Kind(".tiff", _pillow(compression="tiff_lzw")),
        "tif, deflate": Kind(".tif", _pillow(compression="tiff_adobe_deflate")),
        "tif, jpeg": Kind(".tif", _pillow(compression="jpeg"), exact=False, may=True),
        "tif, palette": Kind(".tif", lambda f, rgb: Image.fromarray(rgb).quantize(16).save(f), exact=False),
        "tif, CMYK": Kind(".tif", _pillow("CMYK"), exact=False, may=True),
        "tif, Lab": Kind(
            ".tif", lambda f, rgb: Image.fromarray(rgb[..., :3].copy(), "LAB").save(f), exact=False, may=True
        ),
        "tif, 1 bit": Kind(".tif", _pillow("1", compression="group4"), exact=False),
        "webp": Kind(".webp", _pillow(quality=90), exact=False),
        "webp, lossless": Kind(".webp", _pillow(lossless=True)),
        "ppm": Kind(".ppm", _pillow()),
        "jpg, shown turned": Kind(".jpg", _turned(6), exact=False, may=True),
        "png, shown upside down": Kind(".png", _turned(3), may=True),
    },
    "OpenCV": {
        "png": Kind(".png", _cv2()),
        "png, compressed": Kind(".png", _cv2(cv2.IMWRITE_PNG_COMPRESSION, 9)),
        "jpg": Kind(".jpg", _cv2(), exact=False),
        "jpg, restart marks": Kind(".jpg", _cv2(cv2.IMWRITE_JPEG_RST_INTERVAL, 2), exact=False),
        "bmp": Kind(".bmp", _cv2()),
        "tif": Kind(".tif", _cv2()),
        "webp": Kind(".webp", _cv2(), exact=False),
        "ppm": Kind(".ppm", _cv2()),
        "png, alpha": Kind(".png", _cv2_alpha),
        "png, 16 bits": Kind(".png", _cv2_deep, exact=False, may=True),
        "tif, 16 bits": Kind(".tif", _cv2_deep, exact=False, may=True),
    },
    "imageio": {
        "png": Kind(".png", lambda f, rgb: imageio.imwrite(f, rgb)),
        "jpg": Kind(".jpg", lambda f, rgb: imageio.imwrite(f, rgb), exact=False),
        "bmp": Kind(".bmp", lambda f, rgb: imageio.imwrite(f, rgb)),
        "tif": Kind(".tif", lambda f, rgb: imageio.imwrite(f, rgb)),
        "tif, gray": Kind(".tif", lambda f, rgb: imageio.imwrite(f, _gray(rgb)), exact=False),
    },
    "tifffile": {
        "tif": Kind(".tif", _tif()),
        "tif, big-endian": Kind(".tif", _tif(byteorder=">")),
        "tif, zlib": Kind(".tif", _tif(compression="zlib")),
        "tif, tiles": Kind(".tif", _tif(tile=(16, 16))),
        "tif, strips": Kind(".tif", _tif(rowsperstrip=5)),
        "tif, big": Kind(".tif", _tif(bigtiff=True)),
        "tif, described": Kind(".tif", _tif(description="of a microscope", resolution=(300, 300))),
        "tif, planes": Kind(".tif", _tif_planes, may=True),
        "tif, gray": Kind(
            ".tif", lambda f, rgb: tifffile.imwrite(f, _gray(rgb), photometric="minisblack"), exact=False
        ),
        "tif, white is 0": Kind(
            ".tif", lambda f, rgb: tifffile.imwrite(f, _gray(rgb), photometric="miniswhite"), exact=False, may=True
        ),
        "tif, 16 bits": Kind(".tif", lambda f, rgb: tifffile.imwrite(f, rgb.astype("uint16") * 5), False, True),
        "tif, fractions": Kind(".tif", lambda f, rgb: tifffile.imwrite(f, rgb.astype("float32") / 255), may=True),
        "tif, four bands": Kind(".tif", _tif_bands, may=True),
        "tif, pages": Kind(".tif", _tif_pages, may=True),
    },
}
USUAL = "png"


def may(choice: str, library: str) -> frozenset[tuple[str, str]]:
    """Which values of a choice of kinds may be refused."""
    return frozenset((choice, name) for name, kind in KINDS[library].items() if kind.may)


def write(folder: Path, stem: str, rgb: np.ndarray, library: str, name: str) -> tuple[Path, np.ndarray, int]:
    """The file, its pixels (H, W, 3) as a reference reader shows them, and the levels that decoders may differ by."""
    kind = KINDS[library][name]
    file = folder / f"{stem}{kind.suffix}"
    file.parent.mkdir(parents=True, exist_ok=True)
    kind.write(file, rgb)
    if kind.exact:
        return file, rgb, 0
    return file, shown(file), 4 if kind.suffix.lower() in (".jpg", ".jpeg", ".webp") or "CMYK" in name else 1


def shown(file: Path) -> np.ndarray:
    """RGB pixels as Pillow shows them, turned as the camera's mark says."""
    with Image.open(file) as picture:
        mark = picture.getexif().get(ORIENTATION, 1)
        pixels = np.asarray(picture.convert("RGB"))
    return np.ascontiguousarray({6: np.rot90(pixels, -1), 3: np.rot90(pixels, 2)}.get(mark, pixels))
