"""Stored pixel data to values: codecs, what their headers say, and which bits are the pixel.

`values` reads a DICOM's pixels, `frames` one compressed frame; the others hold one rule each. Knows nothing of files.
"""
