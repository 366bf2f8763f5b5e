"""The command `asr-server`: transcription for other programs, by the OpenAI audio API."""

import click

from transcription_assets import settings
from transcription_assets.cli.terminal import shown


@click.command("asr-server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 = all addresses.")
@click.option(
    "--port",
    default=8010,
    show_default=True,
    type=click.IntRange(0, 65_535),
    help="Port to listen on; 0 = any free port.",
)
@click.pass_context
def asr_server(context: click.Context, host: str, port: int) -> None:
    """Transcribe recordings for clients of the OpenAI audio API, until Ctrl-C; needs no store."""
    from transcription_assets.asr import server
    from transcription_assets.speech import share_memory
    from transcription_assets.wiring import Services, locate_installed

    share_memory()  # before threads allocate from arenas of their own
    chosen = settings.load()
    tools = Services(chosen, locate_installed(chosen), read_only=True)
    server.run(
        chosen,
        tools.engine,
        tools.decoder,
        host,
        port,
        verbose=bool(context.parent and context.parent.params["verbose"]),
        listening=lambda address: shown.print(f"OpenAI audio API on {address} (press Ctrl-C to quit)", soft_wrap=True),
    )
