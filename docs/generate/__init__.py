"""The pages of docs/reference, written from the code that they describe.

`pages.files` gives each file by its path below docs/; `python -m docs.generate` writes them. Knows the package, which
knows nothing of it.
"""
