"""What `import cxrgaze_ray` offers to Python programs and notebooks; the commands `predict` and `score` call it too.

`model` scores single files in this process, without Ray, and gives a `result` for each; `run` scores archives.
Nothing below knows of this room, and nothing is imported here: a program pays for torch or Ray only when it uses them.
"""
