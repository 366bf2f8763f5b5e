"""Dagster's webserver behind `WebGuard`: `python -m transcription_assets.defs.webserver`.

Takes the options of `dagster-webserver`.
"""

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from transcription_assets import settings
from transcription_assets.defs.webguard import WebGuard, parse_hosts


class GuardedWebserver(DagsterWebserver):  # type: ignore[type-arg]
    """Dagster's webserver; it answers to pages of its own and to programs."""

    def build_middleware(self) -> list[Middleware]:
        """Put the guard before everything else."""
        hosts = parse_hosts(settings.load().dagster_hosts)
        return [Middleware(WebGuard, hosts=hosts), *super().build_middleware()]


def main() -> None:
    """Run dagster-webserver's command; it has no option for the class of the webserver."""
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]
    cli.cli(auto_envvar_prefix="DAGSTER_WEBSERVER")


if __name__ == "__main__":
    main()
