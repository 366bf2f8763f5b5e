"""The web server around the site."""

from collections.abc import Callable

import uvicorn

from transcription_assets.app.serve import site
from transcription_assets.app.serve.archive import Archive

MOST_CONNECTIONS = 500
QUIET_S = 15
"""How long a connection without requests is kept."""
LEAVE_S = 5
"""How long a video that plays may go on after SIGTERM."""


def run(archive: Archive, host: str, port: int, *, verbose: bool, listening: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `listening` is told the address once it answers."""
    server = _Server(
        uvicorn.Config(
            site.build(archive, host),
            host=host,
            port=port,
            log_config=None,
            access_log=verbose,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=QUIET_S,
            timeout_graceful_shutdown=LEAVE_S,
        ),
        listening,
    )
    server.run()


class _Server(uvicorn.Server):
    """Says where it listens, also where the system chose the port."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[str], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: "list[object] | None" = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            host, port, *_ = self.servers[0].sockets[0].getsockname()
            self._listening(f"http://{f'[{host}]' if ':' in host else host}:{port}")
