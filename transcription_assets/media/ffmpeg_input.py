"""Input arguments of ffmpeg: the address of a source, and restrictions on what may be opened and decoded."""

import ssl
from contextlib import suppress
from pathlib import Path

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


def address(source: Path | str) -> str:
    """Return the source as a URL for ffmpeg; after `file:`, colons, dashes and commas have no special meaning."""
    if isinstance(source, str) and source.startswith(("http://", "https://", "file:")):
        return source
    return f"file:{Path(source).absolute()}"


def is_remote(where: str) -> bool:
    """Return whether the address is an http(s) URL."""
    return where.startswith(("http://", "https://"))


def input_arguments(where: str, *options: str, size: int | None = None) -> list[str]:
    """Return the arguments up to and including `-i`: one thread, formats of recordings only, no address but `where`.

    `size` (bytes) is the size that the store states for a remote source; a response that ends earlier is then an error.
    """
    common = ["-nostdin", "-hide_banner", "-nostats", "-v", "repeat+level+verbose", "-threads", "1"]
    known = ["-format_whitelist", _FORMATS, "-codec_whitelist", f"{_SOUND},{_PICTURES}"]
    bounded = [*known, "-max_pixels", str(MOST_PIXELS)]
    return [*common, *_transport(where, size), *bounded, *options, "-i", where]


def _transport(where: str, size: int | None) -> list[str]:
    if not is_remote(where):
        return ["-protocol_whitelist", "file"]
    again = ["-reconnect", "1", "-reconnect_on_network_error", "1", "-reconnect_on_http_error", "429,5xx"]
    waits = ["-reconnect_delay_max", str(RECONNECT_S), "-rw_timeout", str(STALL_S * 1_000_000)]
    end = ["-end_offset", str(size)] if size else []
    return ["-protocol_whitelist", "http,https,tcp,tls,httpproxy", *again, *waits, *end, *_trust(where)]


def _trust(where: str) -> list[str]:
    """Return options to verify the store with Python's CAs: by default, old ffmpegs trust all, static builds none."""
    if not where.startswith("https:"):
        return []
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is None:
        with suppress(ImportError):
            import certifi

            authorities = certifi.where()
    return ["-tls_verify", "1", *(("-ca_file", authorities) if authorities else ())]
