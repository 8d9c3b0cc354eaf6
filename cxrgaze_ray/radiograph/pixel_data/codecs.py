"""The transfer syntaxes that are read: by which library, and under which licence; nothing else is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from pydicom import uid


@dataclass(frozen=True)
class Codec:
    """One transfer syntax.

    Attributes
    ----------
    uid, name
        As PS3.6 has them; the name is short.
    family
        Which decoder takes it: ``native``, ``rle``, ``dct``, ``lossless_jpeg``, ``jpeg_ls`` or ``wavelet``.
    library, module, licence
        The package that decodes it, what it is imported as, and its licence.
    """

    uid: str
    name: str
    family: str
    library: str
    module: str
    licence: str

    @property
    def available(self) -> bool:
        """Whether the library is installed."""
        return find_spec(self.module) is not None


_PYDICOM = ("pydicom", "pydicom", "MIT")
_ZLIB = ("Python (zlib), pydicom", "pydicom", "PSF-2.0 and Zlib; MIT")
_PILLOW = ("Pillow (libjpeg-turbo)", "PIL", "MIT-CMU; IJG and BSD-3-Clause")
_OPENJPEG = ("pylibjpeg-openjpeg (OpenJPEG)", "openjpeg", "MIT; BSD-2-Clause")
_PACKBITS = ("imagecodecs", "imagecodecs", "BSD-3-Clause")
_TURBO = ("imagecodecs (libjpeg-turbo)", "imagecodecs", "BSD-3-Clause; IJG and BSD-3-Clause")
_CHARLS = ("imagecodecs (CharLS)", "imagecodecs", "BSD-3-Clause; BSD-3-Clause")

CODECS = (
    Codec(uid.ImplicitVRLittleEndian, "implicit VR little endian", "native", *_PYDICOM),
    Codec(uid.ExplicitVRLittleEndian, "explicit VR little endian", "native", *_PYDICOM),
    Codec(uid.ExplicitVRBigEndian, "explicit VR big endian", "native", *_PYDICOM),
    Codec(uid.DeflatedExplicitVRLittleEndian, "deflated", "native", *_ZLIB),
    Codec(uid.RLELossless, "RLE", "rle", *_PACKBITS),
    Codec(uid.JPEGBaseline8Bit, "JPEG baseline", "dct", *_PILLOW),
    Codec(uid.JPEGExtended12Bit, "JPEG extended", "dct", *_TURBO),
    Codec(uid.JPEGLossless, "JPEG Lossless", "lossless_jpeg", *_TURBO),
    Codec(uid.JPEGLosslessSV1, "JPEG Lossless SV1", "lossless_jpeg", *_TURBO),
    Codec(uid.JPEGLSLossless, "JPEG-LS", "jpeg_ls", *_CHARLS),
    Codec(uid.JPEGLSNearLossless, "JPEG-LS near-lossless", "jpeg_ls", *_CHARLS),
    Codec(uid.JPEG2000Lossless, "JPEG 2000 lossless", "wavelet", *_OPENJPEG),
    Codec(uid.JPEG2000, "JPEG 2000", "wavelet", *_OPENJPEG),
    Codec(uid.HTJ2KLossless, "HTJ2K lossless", "wavelet", *_OPENJPEG),
    Codec(uid.HTJ2KLosslessRPCL, "HTJ2K lossless RPCL", "wavelet", *_OPENJPEG),
    Codec(uid.HTJ2K, "HTJ2K", "wavelet", *_OPENJPEG),
)  # fmt: skip
"""Every transfer syntax that is read."""

_BY_UID = {codec.uid: codec for codec in CODECS}


def find_codec(syntax: str) -> Codec | None:
    """Return the codec of a transfer syntax; None if there is none, or its library is not installed."""
    codec = _BY_UID.get(syntax)
    return codec if codec is not None and codec.available else None


def codec_table() -> str:
    """Return the table as Markdown, for the documentation."""
    rows = [f"| {codec.name} | `{codec.uid}` | {codec.library} | {codec.licence} |" for codec in CODECS]
    return "\n".join(["| transfer syntax | UID | decoded by | licence |", "|---|---|---|---|", *rows])
