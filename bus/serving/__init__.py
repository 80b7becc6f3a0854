"""Starting servers: what `manage.py runbus` does before, around and between them.

Nothing here knows messages. ``sockets`` listens, ``preflight`` looks whether the parts are there, ``servers`` runs one process
under daphne or uvicorn, ``workers`` keeps several of them alive, ``greeting`` says where to look.
"""
