"""Running the service: a web server around it until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from dualstream.errors import InputError
from dualstream.serve.app import make_app
from dualstream.serve.observe import start_logging
from dualstream.serve.service import Service
from dualstream.serve.settings import Settings

BACKLOG = 128


class _Server(uvicorn.Server):
    """Tells the service of the end as soon as it is asked for, before requests are waited for."""

    def __init__(self, config: uvicorn.Config, service: Service, loop: asyncio.AbstractEventLoop):
        super().__init__(config)
        self._service, self._event_loop = service, loop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._event_loop.call_soon_threadsafe(self._service.begin_to_stop)
        # uvicorn would end the process by the signal before the service has stopped.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve(settings: Settings, *, on_ready: Callable[[str], None] = print) -> None:
    """Serve until SIGINT or SIGTERM.

    The address is taken and the networks are loaded before anything is answered, so that errors
    of the call come at once.

    Args:
        settings: of the service.
        on_ready: told the address, as browsers want it, when the first request is taken.

    Raises:
        InputError: the address cannot be had, or see `Service`.
        DualstreamError: the networks cannot be loaded.
    """
    with _listening(settings.host, settings.port) as listener:
        service = Service(settings)
        start_logging()
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        asyncio.run(_run(service, listener, lambda: on_ready(f"http://{shown}:{port}/")))


async def _run(service: Service, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    app = make_app(service)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",  # its errors would be printed, not raised
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(service.settings.limits.grace_seconds) + 1,
    )
    server = _Server(config, service, asyncio.get_running_loop())
    try:
        await service.start()
        on_ready()
        await server.serve(sockets=[listener])
    finally:
        await app.state.trainings.stop()
        await service.stop()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"Cannot listen at {host}:{port} ({error.strerror or error}). Give another --port or "
            "--host, or end what listens there."
        ) from error
    return listener
