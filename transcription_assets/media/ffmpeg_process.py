"""Processes of ffmpeg: their input arguments, which restrict what may be opened and decoded, and their execution.

A process has limits on time and memory, does not get our secrets, and is not left behind.
"""

import os
import re
import selectors
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transcription_assets.errors import PermanentFailure, TransientFailure

SAMPLE_RATE = 16_000
"""Sample rate in Hz of all speech that this package returns."""

RECONNECT_S = 8
"""Longest pause in seconds before a reconnect: ffmpeg waits 0, 1, 3 and 7 s, then gives up."""

STALL_S = 30
"""Seconds without data after which a connection counts as dropped."""

# Containers of recordings only: a playlist (hls, concat, dash, sdp) makes ffmpeg open other files and hosts.
_FORMATS = (
    "aac,ac3,ac4,adx,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,avr,caf,daud,dhav,dsf,dss,dts,dtshd,dv,eac3,f4v,"
    "flac,flv,g722,gsm,gxf,iamf,iff,ilbc,ircam,ivf,kux,live_flv,loas,matroska,webm,mlp,mmf,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mxf,nistsphere,nsv,nut,ogg,oma,pva,qcp,rm,sds,shn,sln,sol,sox,spdif,swf,"
    "tak,truehd,tta,ty,voc,vivo,w64,wav,wsd,wtv,wv,wve,xwma"
)

# Decoders of recordings, and of the pictures in them: those of games, fonts and vector graphics are old, rarely fuzzed
# and not needed for recordings. PCM and ADPCM families are listed in full, as the option has no wildcards.
_SOUND = (
    "aac,aac_fixed,aac_latm,ac3,ac3_fixed,adpcm_adx,adpcm_ima_oki,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,"
    "adpcm_yamaha,alac,als,amrnb,amrwb,ape,aptx,aptx_hd,atrac1,atrac3,atrac3al,atrac3plus,atrac3plusal,comfortnoise,"
    "cook,dca,dolby_e,dsd_lsbf,dsd_lsbf_planar,dsd_msbf,dsd_msbf_planar,dss_sp,dst,dvaudio,eac3,evrc,flac,g722,g723_1,"
    "g726,g726le,g728,g729,gsm,gsm_ms,iac,ilbc,imc,libcodec2,libgsm,libgsm_ms,libopencore_amrnb,libopencore_amrwb,"
    "libopus,libspeex,libvorbis,mace3,mace6,metasound,mlp,mp1,mp1float,mp2,mp2float,mp3,mp3adu,mp3adufloat,mp3float,"
    "mp3on4,mp3on4float,mpc7,mpc8,msnsiren,nellymoser,opus,pcm_alaw,pcm_bluray,pcm_dvd,pcm_f16le,pcm_f24le,pcm_f32be,"
    "pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16be_planar,pcm_s16le,pcm_s16le_planar,pcm_s24be,"
    "pcm_s24daud,pcm_s24le,pcm_s24le_planar,pcm_s32be,pcm_s32le,pcm_s32le_planar,pcm_s64be,pcm_s64le,pcm_s8,"
    "pcm_s8_planar,pcm_u16be,pcm_u16le,pcm_u24be,pcm_u24le,pcm_u32be,pcm_u32le,pcm_u8,pcm_vidc,qcelp,qdm2,qdmc,qoa,"
    "ralf,real_144,real_288,s302m,sbc,shorten,sipr,siren,speex,tak,truehd,truespeech,tta,twinvq,vorbis,wavpack,"
    "wmalossless,wmapro,wmav1,wmav2,wmavoice,xma1,xma2"
)
_PICTURES = (
    "apng,asv1,asv2,av1,avs,bmp,camstudio,camtasia,cavs,cfhd,cinepak,cljr,dirac,dnxhd,dvvideo,ffv1,ffvhuff,flashsv,"
    "flashsv2,flv,fraps,g2m,gif,h261,h263,h263i,h263p,h264,hap,hevc,huffyuv,indeo2,indeo3,indeo4,indeo5,jpeg2000,"
    "lagarith,libaom-av1,libdav1d,libopenjpeg,libvpx,libvpx-vp9,magicyuv,mjpeg,mjpegb,mpeg1video,mpeg2video,mpeg4,"
    "mpegvideo,msmpeg4,msmpeg4v1,msmpeg4v2,msrle,mss1,mss2,msvideo1,mszh,png,prores,prores_raw,qtrle,r10k,r210,"
    "rawvideo,rpza,rv10,rv20,rv30,rv40,rv60,smc,snow,svq1,svq3,theora,tiff,tscc2,utvideo,v210,v210x,v308,v408,v410,"
    "vc1,vmnc,vp3,vp4,vp5,vp6,vp6a,vp6f,vp7,vp8,vp9,vvc,webp,wmv1,wmv2,wmv3,wnv1,zlib,zmbv"
)

MOST_PIXELS = 1 << 26
"""Largest picture that is decoded: 8192 x 8192, twice the area of 8K. A cover of 2 MB can decompress to gigabytes."""

_HEAD_BYTES = 1 << 20  # the header comes first; the chapters of an audio book take thousands of lines
_TAIL_BYTES = 64 << 10
_READ_BYTES = 64 << 10

MEMORY_BYTES = 4 << 30
"""Limit of the address space of one ffmpeg. A poster of an 8K video, our largest call, needs less than 2 GiB."""

_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SYSTEMROOT"),
    *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
)
"""Variables that ffmpeg or its libraries read, in upper case. All others may hold secrets and are not passed on."""


def address(source: Path | str) -> str:
    """Return the source as a URL for ffmpeg; after `file:`, colons, dashes and commas have no special meaning."""
    if isinstance(source, str) and source.startswith(("http://", "https://", "file:")):
        return source
    return f"file:{Path(source).absolute()}"


def is_remote(url: str) -> bool:
    """Return whether the address is an http(s) URL."""
    return url.startswith(("http://", "https://"))


def input_arguments(url: str, *options: str, size: int | None = None) -> list[str]:
    """Return the arguments up to and including `-i`: one thread, formats of recordings only, no address but `url`.

    `size` (bytes) is the size that the store states for a remote source; a response that ends earlier is then an error.
    """
    common = ["-nostdin", "-hide_banner", "-nostats", "-v", "repeat+level+verbose", "-threads", "1"]
    allowed = ["-format_whitelist", _FORMATS, "-codec_whitelist", f"{_SOUND},{_PICTURES}"]
    bounded = [*allowed, "-max_pixels", str(MOST_PIXELS)]
    return [*common, *_transport(url, size), *bounded, *options, "-i", url]


def _transport(url: str, size: int | None) -> list[str]:
    if not is_remote(url):
        return ["-protocol_whitelist", "file"]
    reconnect = ["-reconnect", "1", "-reconnect_on_network_error", "1", "-reconnect_on_http_error", "429,5xx"]
    waits = ["-reconnect_delay_max", str(RECONNECT_S), "-rw_timeout", str(STALL_S * 1_000_000)]
    end = ["-end_offset", str(size)] if size else []
    return ["-protocol_whitelist", "http,https,tcp,tls,httpproxy", *reconnect, *waits, *end, *_trust(url)]


def _trust(url: str) -> list[str]:
    """Return options to verify the store with Python's CAs: by default, old ffmpegs trust all, static builds none."""
    if not url.startswith("https:"):
        return []
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is None:
        with suppress(ImportError):
            import certifi

            authorities = certifi.where()
    return ["-tls_verify", "1", *(("-ca_file", authorities) if authorities else ())]


class NotExecutable(PermanentFailure):
    """ffmpeg does not exist or may not be executed."""


@dataclass(slots=True)
class Printed:
    """Output of ffmpeg: only its beginning and its end, so that a million messages take constant memory."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        """Append `data`; once the beginning is full, only the latest bytes are stored."""
        room = _HEAD_BYTES - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        del self.tail[:-_TAIL_BYTES]

    def __bytes__(self) -> bytes:
        return bytes(self.head + self.tail)


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Result of a run: `code` is the exit status, None after a timeout, negative if a signal ended the process.

    `decoded_s` is the last position in the output (seconds).
    """

    code: int | None
    printed: bytes
    decoded_s: float = 0.0


class Interruption:
    """Kills the processes that a thread started in `interruptible`; `kill` is called from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._killed = False

    def kill(self) -> None:
        """Kill the processes that run, and each that is started later."""
        with self._lock:
            self._killed = True
            for process in self._running:
                _kill(process)

    @contextmanager
    def covering(self, process: "subprocess.Popen[bytes]") -> Iterator[None]:
        """Let `kill` end the process during the block; its process group exists until the block ends."""
        with self._lock:
            self._running.add(process)
            if self._killed:
                _kill(process)
        try:
            yield
        finally:
            with self._lock:
                self._running.discard(process)


class _OfThread(threading.local):
    interruption: Interruption | None = None


_of_thread = _OfThread()


@contextmanager
def interruptible(interruption: Interruption) -> Iterator[None]:
    """Let `interruption` kill the processes that this thread starts in the block."""
    before, _of_thread.interruption = _of_thread.interruption, interruption
    try:
        yield
    finally:
        _of_thread.interruption = before


def run(command: list[str], limit_s: float) -> ProcessResult:
    """Run ffmpeg for at most `limit_s` seconds; with `-progress pipe:1`, its position is part of the result.

    Raises:
        NotExecutable: the program does not exist or may not be executed.
        TransientFailure: the system cannot start a process now.

    """
    deadline = time.monotonic() + limit_s
    printed = Printed()
    progress = b""
    if shutil.which(command[0]) is None:  # with a prefix before it, starting it would not fail
        raise NotExecutable(
            f"cannot start {command[0]}: it does not exist or is not executable. Correct the path of ffmpeg",
            hint="correct TRANSCRIPTION_FFMPEG",
        )
    code: int | None = None
    with started([*bound_to_parent(), *command]) as process, suppress(subprocess.TimeoutExpired):
        for data in output(process, printed, lambda: deadline - time.monotonic()):
            progress = (progress + data)[-4_096:]
        code = process.wait(max(deadline - time.monotonic(), 0.0))
    return ProcessResult(code, bytes(printed), _position(progress))


def _position(progress: bytes) -> float:
    """Return the last reported position in seconds, 0.0 if nothing was written."""
    times = re.findall(rb"out_time_us=(\d+)", progress)
    return int(times[-1]) / 1e6 if times else 0.0


@contextmanager
def started(
    command: list[str], *, stdin: int = subprocess.DEVNULL, pass_fds: Collection[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process in a process group of its own, which is killed when the block is left, also by an exception.

    On Linux its address space is limited to MEMORY_BYTES. Its environment holds only the variables that ffmpeg reads.
    `pass_fds` are additional file descriptors that it inherits.

    Raises:
        NotExecutable: the program does not exist or may not be executed.
        TransientFailure: the system cannot start a process now.

    """
    with ExitStack() as stack:
        with _signals_deferred():  # one that raises inside `Popen` would leave a process that nobody ends
            process = stack.enter_context(_popen(command, stdin, pass_fds))
            stack.callback(_kill, process)
            if _of_thread.interruption is not None:
                stack.enter_context(_of_thread.interruption.covering(process))
        _limit_memory(process.pid)
        yield process


def _popen(command: list[str], stdin: int, pass_fds: Collection[int]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name.upper() in _ENVIRONMENT},
            pass_fds=pass_fds,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise NotExecutable(
            f"cannot start {command[0]}: {error.strerror}. Correct the path of ffmpeg",
            hint="correct TRANSCRIPTION_FFMPEG",
        ) from error
    except OSError as error:
        raise TransientFailure(f"cannot start {command[0]}: {error.strerror}; try again", hint="try again") from error


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process with its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Run the Python handlers of signals that end a process after the block; they run in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[tuple[Any, ...]] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    deferred = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in deferred:
        signal.signal(number, lambda *call: received.append(call))
    try:
        yield
    finally:
        for number, handler in deferred.items():
            signal.signal(number, handler)
        for number, frame in received:
            deferred[number](number, frame)


def _limit_memory(pid: int) -> None:
    """Limit the address space of a running process; only Linux can do that from outside."""
    if sys.platform != "linux":
        return
    import resource

    with suppress(ProcessLookupError):  # it has ended already
        _, most = resource.prlimit(pid, resource.RLIMIT_AS)
        limit = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))


def bound_to_parent() -> list[str]:
    """Return a command prefix that kills the process when the calling thread ends, empty if there is no `setpriv`.

    ffmpeg ignores a broken pipe of `-progress`: without the prefix it would decode to the end after its parent was
    killed. Only for calls that wait in the thread that started them. BusyBox's setpriv lacks the option.
    """
    found = shutil.which("setpriv") if sys.platform == "linux" else None
    return [found, "--pdeathsig", "KILL", "--"] if found and Path(found).resolve().name == "setpriv" else []


def output(process: subprocess.Popen[bytes], printed: Printed, remaining_s: Callable[[], float]) -> Generator[bytes]:
    """Yield standard output as it arrives, and feed standard error to `printed`.

    `remaining_s` returns how many seconds to wait for more.

    Raises:
        subprocess.TimeoutExpired: these seconds have passed without any output.

    """
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            wait = remaining_s()
            ready = selector.select(wait) if wait > 0 else []
            if not ready:
                raise subprocess.TimeoutExpired(process.args, wait)
            for key, _ in ready:
                data = os.read(key.fd, _READ_BYTES)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    printed.feed(data)
                else:
                    yield data
