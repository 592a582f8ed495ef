"""The page and its HTTP API: images are dropped, looked at, enlarged one after another, compared.

``app`` answers HTTP and ``guard`` decides who is answered; ``jobs`` keeps images and jobs in
SQLite; ``service`` moves them on; ``worker`` holds the two processes that touch pixels, and
``compute`` is what runs in them. The server itself loads no torch and decodes no image.
"""
