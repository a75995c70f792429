"""Reports on campaigns and runs: one page that can be sent, and a card for a repository.

Flows in: the answers of ``flowprov.read``. Flows out: HTML or Markdown, as text. ``parts`` names what a
report is made of, ``collect`` finds it, and ``page`` writes it down.
"""
