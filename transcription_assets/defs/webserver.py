"""Dagster's webserver with `WebGuard`: `python -m transcription_assets.defs.webserver`.

It has the options of `dagster-webserver`.
"""

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from transcription_assets import settings
from transcription_assets.defs.webguard import WebGuard
from transcription_assets.domain.hosts import parse_hosts


class GuardedWebserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver that answers only to its own pages and to programs."""

    def build_middleware(self) -> list[Middleware]:
        """Return the middleware, `WebGuard` first.

        Raises:
            WrongSettings: The settings are invalid.

        """
        hosts = parse_hosts(settings.load().dagster_hosts)
        return [Middleware(WebGuard, hosts=hosts), *super().build_middleware()]


def main() -> None:
    """Run dagster-webserver's command with `GuardedWebserver`, for which it has no option."""
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
