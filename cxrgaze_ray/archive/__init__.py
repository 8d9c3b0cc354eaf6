"""An archive of radiographs as a hospital has it: which files there are, whose they are, and each as a model image.

`manifest` lists, `tables` reads what users bring, `identities` keeps or hashes ids, `intake` reads one planned file.
Knows nothing of models and runs.
"""
