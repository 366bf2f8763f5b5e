"""What ffmpeg is told about its input: where it is, and what must not be opened because of it."""

import ssl
from contextlib import suppress
from pathlib import Path

RECONNECT_S = 8
"""The longest pause before a new attempt: ffmpeg waits 0, 1, 3, 7 s, then gives up."""

STALL_S = 30
"""A store that sends nothing for so long has dropped the connection."""

# Containers of recordings only: a playlist (hls, concat, dash, sdp) makes ffmpeg open other files and hosts.
_FORMATS = (
    "aac,ac3,ac4,adx,aiff,amr,amrnb,amrwb,ape,asf,asf_o,au,avi,avr,caf,daud,dhav,dsf,dss,dts,dtshd,dv,eac3,f4v,"
    "flac,flv,g722,gsm,gxf,iamf,iff,ilbc,ircam,ivf,kux,live_flv,loas,matroska,webm,mlp,mmf,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mxf,nistsphere,nsv,nut,ogg,oma,pva,qcp,rm,sds,shn,sln,sol,sox,spdif,swf,"
    "tak,truehd,tta,ty,voc,vivo,w64,wav,wsd,wtv,wv,wve,xwma"
)


def address(source: Path | str) -> str:
    """The source as ffmpeg reads it: behind `file:`, colons, dashes and commas of a name mean nothing."""
    if isinstance(source, str) and source.startswith(("http://", "https://", "file:")):
        return source
    return f"file:{Path(source).absolute()}"


def is_remote(where: str) -> bool:
    """Whether the address is one of http."""
    return where.startswith(("http://", "https://"))


def input_arguments(where: str, *options: str, size: int | None = None) -> list[str]:
    """The arguments up to and with `-i`: one thread, recordings only, and no other place than `where`.

    `size` (bytes) of a remote source is what the store says that it is; an answer that ends earlier is an error then.
    """
    common = ["-nostdin", "-hide_banner", "-nostats", "-v", "repeat+level+verbose", "-threads", "1"]
    return [*common, *_transport(where, size), "-format_whitelist", _FORMATS, *options, "-i", where]


def _transport(where: str, size: int | None) -> list[str]:
    if not is_remote(where):
        return ["-protocol_whitelist", "file"]
    again = ["-reconnect", "1", "-reconnect_on_network_error", "1", "-reconnect_on_http_error", "429,5xx"]
    waits = ["-reconnect_delay_max", str(RECONNECT_S), "-rw_timeout", str(STALL_S * 1_000_000)]
    end = ["-end_offset", str(size)] if size else []
    return ["-protocol_whitelist", "http,https,tcp,tls,httpproxy", *again, *waits, *end, *_trust(where)]


def _trust(where: str) -> list[str]:
    """Verify the store by the authorities that Python trusts: old ffmpegs trust all, static ones nobody."""
    if not where.startswith("https:"):
        return []
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is None:
        with suppress(ImportError):
            import certifi

            authorities = certifi.where()
    return ["-tls_verify", "1", *(("-ca_file", authorities) if authorities else ())]
