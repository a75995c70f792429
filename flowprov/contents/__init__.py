"""Contents: what files, folders and objects hold, as digests that do not depend on where they lie.

Flows in: paths, descriptors, objects. Flows out: their content. Nothing is unpickled, no framework is
imported, and no code from a file runs.
"""
