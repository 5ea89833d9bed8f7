"""A server asked from Python or a shell: calls that wait or are awaited, and `python -m services.client`.

It imports nothing of the serving side, so that a shell need not wait for Ray.
"""

from services.client.awaited import AsyncClient
from services.client.blocking import Client

__all__ = ["AsyncClient", "Client"]
