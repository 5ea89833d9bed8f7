"""Clients that ask side by side for as long as a block lasts."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def asking(clients: int, ask_on: Callable[[threading.Event], None]) -> Iterator[None]:
    """A block during which so many threads run `ask_on`, each until the event that it is given is set.

    The block's end sets it and waits for all of them; what one of them raised is raised then.
    """
    over = threading.Event()
    with ThreadPoolExecutor(clients) as pool:
        threads = [pool.submit(ask_on, over) for _ in range(clients)]
        try:
            yield
        finally:
            over.set()
    for thread in threads:
        thread.result()
