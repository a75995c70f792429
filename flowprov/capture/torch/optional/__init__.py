"""What is recorded of models only where the settings ask for it: statistics, backward passes, steps.

Each stands in a file of its own; ``span``, ``aside`` and ``later`` are what they share. ``capture.torch``
reaches in here where it puts hooks on; nothing here changes what the hooks do without it.
"""
