"""A policy over a websocket: `messages` reads what comes in, `server` answers, `client` is a file that can be copied.

Needs websockets and msgpack (`pip install 'supple[serve]'`). Nothing is imported here.
"""
