"""Libraries that report their use by default do not."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import transcription_assets, onnxruntime, huggingface_hub.constants
assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
"""


def test_imported_libraries_store_no_identifier(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name and name != "CI"}
    folders = {name: str(tmp_path) for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    subprocess.run([sys.executable, "-c", CODE], env=variables | folders, check=True)
    assert list(tmp_path.iterdir()) == []
