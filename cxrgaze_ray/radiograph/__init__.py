"""One radiograph, from bytes to the model image.

`reading` makes a Radiograph of a file, `pixel_data` decodes what is stored in it, `preprocess` makes the model image,
and `decoding` does all of it in a process that may crash. Knows nothing of archives and models.
"""
