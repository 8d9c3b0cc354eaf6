"""This machine and its Ray cluster: started or joined, its ports, its private folder, its signals and its limits.

`connection` is what others need; `ray_internals` holds every use of Ray below its public interface.
Knows nothing of radiographs, models or stores. Nothing is imported here: most modules need no Ray.
"""
