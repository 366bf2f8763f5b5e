"""The command `python -m transcription_assets`."""

from transcription_assets.cli.main import main

if __name__ == "__main__":
    main()
