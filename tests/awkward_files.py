"""One picture stored in awkward ways, each after a public report of what goes wrong in other systems."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from openjpeg import utils as openjpeg
from PIL import Image
from pydicom import Dataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_files import compress, dicom_bytes, dicom_dataset, make_dicom, make_encapsulated

ROWS, COLUMNS = 600, 480


def control() -> NDArray[np.uint16]:
    """Return a crude chest of 12 bits with a letter L, upright, no mirror image of itself in either direction."""
    y, x = np.mgrid[:ROWS, :COLUMNS].astype(np.float64)
    picture = 2600 + 900 * y / ROWS
    for centre, width in ((150, 75), (330, 68)):
        lung = ((y - 280) / 190) ** 2 + ((x - centre) / width) ** 2
        picture -= 2300 * np.clip(1.2 - lung, 0, 1)
    heart = ((y - 370) / 110) ** 2 + ((x - 275) / 80) ** 2
    picture += 900 * np.clip(1.1 - heart, 0, 1)
    picture[:60, :90] = picture[:60, -70:] = 60
    noisy = picture + np.random.default_rng(3).normal(0, 25, picture.shape)
    canvas = np.clip(cv2.GaussianBlur(noisy, (0, 0), 1), 0, 4000)
    canvas[80:125, 405:415] = canvas[115:125, 405:432] = 4095
    rounded: NDArray[np.uint16] = np.rint(canvas).astype(np.uint16)
    return rounded


def eight(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return 12 bits as 8."""
    return (pixels >> 4).astype(np.uint8)


def widened() -> NDArray[np.uint16]:
    """Return the picture in 16 bits: values far above 12 bits, in every bit."""
    return (control().astype(np.float64) / 4095 * 65535).astype(np.uint16)


def wavelet(pixels: NDArray[Any], bits: int) -> bytes:
    """Return a JPEG 2000 codestream of so many bits, signed if the pixels are."""
    return bytes(
        openjpeg.encode_array(
            np.ascontiguousarray(pixels), bits, 2 if pixels.ndim == 2 else 1, use_mct=pixels.ndim == 3
        )
    )


def framed(frame: bytes, syntax: str, **tags: Any) -> bytes:
    """Return a compressed frame as a file whose tags say 12 bits of 16, unsigned, unless others are given."""
    layout = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    return make_encapsulated(frame, syntax, ROWS, COLUMNS, **(layout | tags))


def colour_dicom(channels: NDArray[Any], photometric: str, planar: int = 0, **tags: Any) -> bytes:
    """Return native colour channels (rows, columns, 3), interleaved or plane by plane."""
    laid = channels.transpose(2, 0, 1) if planar else channels
    given = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": photometric,
        "PlanarConfiguration": planar,
        "Rows": channels.shape[0],
        "Columns": channels.shape[1],
        "PixelData": np.ascontiguousarray(laid).tobytes(),
    }
    return make_dicom(channels[..., 0], **(given | tags))


def palette_dicom(
    indices: NDArray[Any], tables: NDArray[Any], syntax: str = ExplicitVRLittleEndian, **tags: Any
) -> bytes:
    """Return a picture of indices into red, green and blue tables (3, entries) of 8 or 16 bits."""
    lookup: dict[str, Any] = {}
    words = tables if tables.itemsize == 2 else np.ascontiguousarray(tables).view("<u2")
    for name, table in zip(("Red", "Green", "Blue"), words, strict=True):
        lookup[f"{name}PaletteColorLookupTableDescriptor"] = [tables.shape[1] % 65536, 0, 8 * tables.itemsize]
        lookup[f"{name}PaletteColorLookupTableData"] = table.astype(
            ">u2" if syntax == ExplicitVRBigEndian else "<u2"
        ).tobytes()
    return make_dicom(indices, syntax, PhotometricInterpretation="PALETTE COLOR", **(lookup | tags))


def png(pixels: NDArray[Any]) -> bytes:
    """Return channels of 16 bits as a PNG, which Pillow can't write."""
    return bytes(imagecodecs.png_encode(pixels))


def turned(orientation: int, kind: str) -> bytes:
    """Return the picture as a camera stores it that notes an Exif orientation: shown, it is upright again."""
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    steps = [None, None, 0, 3, 1, 5, 4, 6, 2]  # Pillow's Transpose by the Exif orientation that calls for it
    stored = Image.fromarray(eight(control()))
    step = steps[undo]
    stored = stored if step is None else stored.transpose(Image.Transpose(step))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    options = {"quality": 95} if kind == "JPEG" else {}
    stored.save(file, kind, exif=exif, **options)
    return file.getvalue()


def phone(orientation: int = 1) -> bytes:
    """Return a phone's MPO: the picture, then a smaller one of other values."""
    first = Image.open(io.BytesIO(turned(orientation, "JPEG")))
    file = io.BytesIO()
    second = Image.fromarray(np.full((120, 96), 77, np.uint8))
    first.save(file, "MPO", save_all=True, append_images=[second], quality=95, exif=first.getexif())
    return file.getvalue()


def without_syntax(data: bytes) -> bytes:
    """Return a file whose meta group names no transfer syntax."""
    start = data.index(b"\x02\x00\x10\x00UI")
    length = 8 + struct.unpack_from("<H", data, start + 6)[0]
    group = struct.unpack_from("<I", data, 140)[0]
    return data[:140] + struct.pack("<I", group - length) + data[144:start] + data[start + length :]


def with_element(data: bytes, element: bytes) -> bytes:
    """Return a file with an element before the pixels' description, as private writers put them."""
    place = data.index(b"\x28\x00\x02\x00US")
    return data[:place] + element + data[place:]


def same_picture() -> dict[str, bytes]:
    """Return files that all hold the control's picture, upright and of its polarity, by what is odd about them."""
    pixels, grey, wide = control(), eight(control()), widened()
    signed = (pixels.astype(np.int32) - 2048).astype(np.int16)
    ramp = np.arange(256, dtype=np.uint16) * 257
    long = (np.arange(4096) >> 4).astype(np.uint8)
    rgb, jpeg = np.stack([grey] * 3, axis=2), {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    luma = np.stack([grey, np.full_like(grey, 128), np.full_like(grey, 128)], axis=2)
    lossless = compress(pixels, JPEGLosslessSV1, 12)
    three = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    return {
        "JPEG 2000 of 16 bits, tags say 12": framed(wavelet(wide, 16), JPEG2000Lossless),
        "HTJ2K of 16 bits, tags say 12": framed(compress(wide, HTJ2KLossless, 16), HTJ2KLossless),
        "JPEG-LS of 16 bits, tags say 12": framed(compress(wide, JPEGLSLossless, 16), JPEGLSLossless),
        "JPEG Lossless of 16 bits, tags say 12": framed(compress(wide, JPEGLosslessSV1, 16), JPEGLosslessSV1),
        "JPEG Lossless of 16 bits, tags allocate 8": framed(
            compress(wide, JPEGLosslessSV1, 16), JPEGLosslessSV1, **jpeg
        ),
        "native of 16 bits, tags say 12": make_dicom(wide, BitsStored=12),
        "RLE of 16 bits, tags say 12": make_dicom(wide, RLELossless, BitsStored=12),
        "JPEG 2000 of 12 bits, tags say 16": framed(wavelet(pixels, 12), JPEG2000Lossless, BitsStored=16, HighBit=15),
        "signed JPEG 2000, tags say unsigned": framed(wavelet(signed, 12), JPEG2000Lossless),
        "unsigned JPEG 2000, tags say signed": framed(wavelet(pixels, 12), JPEG2000Lossless, PixelRepresentation=1),
        "two's complement in an unsigned JPEG 2000": framed(
            wavelet(signed.view(np.uint16) & 0xFFF, 12), JPEG2000Lossless, PixelRepresentation=1
        ),
        "grey JPEG-LS in three channels, tags say one": framed(
            bytes(imagecodecs.jpegls_encode(rgb)), JPEGLSLossless, **jpeg
        ),
        "one channel, tags say three": framed(compress(grey, JPEGLSLossless, 8), JPEGLSLossless, **jpeg, **three),
        "padding value 65535 of 12 bits": make_dicom(pixels, BitsStored=12, PixelPaddingValue=65535),
        "padding value -1 of 12 bits": make_dicom(pixels, BitsStored=12, PixelPaddingValue=0xFFFF),
        "padding to a limit of 65535": make_dicom(
            pixels, BitsStored=12, PixelPaddingValue=0, PixelPaddingRangeLimit=65535
        ),
        "grey RGB": colour_dicom(rgb, "RGB"),
        "grey RGB, plane by plane": colour_dicom(rgb, "RGB", planar=1),
        "grey RGB of 16 bits": colour_dicom(np.stack([pixels] * 3, axis=2), "RGB", BitsStored=12),
        "grey YBR_FULL": colour_dicom(luma, "YBR_FULL"),
        "grey YBR_FULL_422": colour_dicom(luma, "YBR_FULL_422", PixelData=_halved_chroma(luma)),
        "grey RGB in RLE": _compressed(rgb, RLELossless),
        "grey RGB in JPEG 2000": framed(wavelet(rgb, 8), JPEG2000Lossless, **jpeg, **three),
        "grey RGB in JPEG": framed(_jpeg(rgb), JPEGBaseline8Bit, **jpeg, **three),
        "grey RGB in a JPEG that does not tell": framed(_bare_rgb_jpeg(rgb), JPEGBaseline8Bit, **jpeg, **three),
        "grey YBR_FULL_422 in JPEG": framed(
            _jpeg(rgb), JPEGBaseline8Bit, **jpeg, **(three | {"PhotometricInterpretation": "YBR_FULL_422"})
        ),
        "grey palette": palette_dicom(grey, np.stack([ramp] * 3)),
        "grey palette, turned upside down": palette_dicom(255 - grey, np.stack([ramp[::-1]] * 3)),
        "grey palette of 8 bits for 12": palette_dicom(pixels, np.stack([long] * 3), BitsStored=12),
        "grey palette in big endian": palette_dicom(grey, np.stack([ramp] * 3), ExplicitVRBigEndian),
        "grey palette of 8 bits in big endian": palette_dicom(
            pixels, np.stack([long] * 3), ExplicitVRBigEndian, BitsStored=12
        ),
        "zeros after a JPEG Lossless": framed(lossless + bytes(30), JPEGLosslessSV1),
        "an end marker after a JPEG Lossless": framed(lossless + b"\0\0\xff\xd9\0\0", JPEGLosslessSV1),
        "zeros after a JPEG-LS": framed(compress(pixels, JPEGLSLossless, 12) + bytes(30), JPEGLSLossless),
        "zeros after a JPEG 2000": framed(wavelet(pixels, 12) + bytes(30), JPEG2000Lossless),
        "zeros after a JPEG": framed(_jpeg(grey) + bytes(30), JPEGBaseline8Bit, **jpeg),
        "private element of a VR in small letters": with_element(
            make_dicom(pixels, BitsStored=12), b"\x19\x00\x01\x10ob\x06\x00abcdef"
        ),
        "private element of a blank VR and a long length": with_element(
            make_dicom(pixels, BitsStored=12), b"\x19\x00\x01\x10  \x00\x00\x06\x00\x00\x00abcdef"
        ),
        "private element of a new VR and a long length": with_element(
            make_dicom(pixels, BitsStored=12), b"\x19\x00\x01\x10ZZ\x00\x00\x06\x00\x00\x00abcdef"
        ),
        "two private elements without a VR": with_element(
            make_dicom(pixels, BitsStored=12),
            b"\x19\x00\x01\x10\x06\x00\x00\x00abcdef\x19\x00\x02\x10\x02\x00\x00\x00zz",
        ),
        "an odd VR behind a sequence of undefined length": with_element(
            _with_sequence(pixels), b"\x19\x00\x01\x10??\x06\x00abcdef"
        ),
        "grey and alpha of 16 bits": png(np.stack([pixels, np.full_like(pixels, 65535)], axis=2)),
        "RGB of 16 bits": png(np.stack([pixels] * 3, axis=2)),
        "RGB and alpha of 16 bits": png(np.stack([pixels] * 3 + [np.full_like(pixels, 65535)], axis=2)),
        "a phone's several pictures": phone(),
        "a phone's several pictures, turned": phone(6),
        **{f"Exif {number} {kind}": turned(number, kind) for number in range(1, 9) for kind in ("JPEG", "PNG")},
    }


def refused() -> dict[str, bytes]:
    """Return sound pixels whose transfer syntax is missing, or another one."""
    pixels, grey = control(), eight(control())
    jpeg = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    native = dicom_dataset(pixels, ExplicitVRLittleEndian, BitsStored=12)
    compressed = framed(wavelet(pixels, 12), JPEG2000Lossless)
    return {
        "JPEG 2000 without a transfer syntax": without_syntax(compressed),
        "JPEG without a transfer syntax": without_syntax(framed(_jpeg(grey), JPEGBaseline8Bit, **jpeg)),
        "JPEG 2000, said to be native": compressed.replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1\0\0\0"),
        "JPEG, said to be JPEG 2000": framed(_jpeg(grey), JPEG2000Lossless, **jpeg),
        "JPEG Lossless, said to be JPEG-LS": framed(compress(pixels, JPEGLosslessSV1, 12), JPEGLSLossless),
        "JPEG Lossless, said to be baseline": framed(compress(pixels, JPEGLosslessSV1, 12), JPEGBaseline8Bit),
        "native, said to be JPEG 2000": dicom_bytes(native).replace(
            b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.4.90"
        ),
    }


def _compressed(rgb: NDArray[np.uint8], syntax: str) -> bytes:
    tags: dict[str, Any] = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    dataset = dicom_dataset(rgb[..., 0], **tags, PixelData=rgb.tobytes())
    dataset.compress(syntax, generate_instance_uid=False)
    return dicom_bytes(dataset)


def _halved_chroma(luma: NDArray[np.uint8]) -> bytes:
    """Return two luma, one blue, one red of every two pixels."""
    pairs = np.stack([luma[:, ::2, 0], luma[:, 1::2, 0], luma[:, ::2, 1], luma[:, ::2, 2]], axis=2)
    return pairs.tobytes()


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98)
    return file.getvalue()


def _bare_rgb_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Return a JPEG of red, green and blue as they are, without a marker that says so."""
    return bytes(imagecodecs.jpeg8_encode(rgb, level=98, colorspace="rgb", outcolorspace="rgb"))


def _with_sequence(pixels: NDArray[np.uint16]) -> bytes:
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "399348003", "antero-posterior"
    item = Dataset()
    item.ViewCodeSequence = [inner]
    item["ViewCodeSequence"].is_undefined_length = True
    dataset = dicom_dataset(pixels, BitsStored=12, ReferencedStudySequence=[item])
    dataset["ReferencedStudySequence"].is_undefined_length = True
    return dicom_bytes(dataset)
