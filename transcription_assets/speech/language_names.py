"""Codes and names of the languages of Whisper: speech services say `english`, `en`, `eng` or `en-US`."""

NAMES = """
en english, zh chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese, pt portuguese, tr turkish,
pl polish, ca catalan, nl dutch, ar arabic, sv swedish, it italian, id indonesian, hi hindi, fi finnish, vi vietnamese,
he hebrew, uk ukrainian, el greek, ms malay, cs czech, ro romanian, da danish, hu hungarian, ta tamil, no norwegian,
th thai, ur urdu, hr croatian, bg bulgarian, lt lithuanian, la latin, mi maori, ml malayalam, cy welsh, sk slovak,
te telugu, fa persian, lv latvian, bn bengali, sr serbian, az azerbaijani, sl slovenian, kn kannada, et estonian,
mk macedonian, br breton, eu basque, is icelandic, hy armenian, ne nepali, mn mongolian, bs bosnian, kk kazakh,
sq albanian, sw swahili, gl galician, mr marathi, pa punjabi, si sinhala, km khmer, sn shona, yo yoruba, so somali,
af afrikaans, oc occitan, ka georgian, be belarusian, tg tajik, sd sindhi, gu gujarati, am amharic, yi yiddish, lo lao,
uz uzbek, fo faroese, ht haitian creole, ps pashto, tk turkmen, nn nynorsk, mt maltese, sa sanskrit, lb luxembourgish,
my myanmar, bo tibetan, tl tagalog, mg malagasy, as assamese, tt tatar, haw hawaiian, ln lingala, ha hausa, ba bashkir,
jw javanese, su sundanese, yue cantonese
"""
ALIASES = """
my burmese, ca valencian, nl flemish, ht haitian, lb letzeburgesch, ps pushto, pa panjabi, ro moldavian, ro moldovan,
si sinhalese, es castilian, zh mandarin, no norwegian bokmål, nn norwegian nynorsk, tl filipino, fa farsi
"""
CODES = """
en eng, zh zho, zh chi, zh cmn, de deu, de ger, es spa, ru rus, ko kor, fr fra, fr fre, ja jpn, pt por, tr tur, pl pol,
ca cat, nl nld, nl dut, ar ara, ar arb, sv swe, it ita, id ind, id in, hi hin, fi fin, vi vie, he heb, he iw, uk ukr,
el ell, el gre, ms msa, ms may, ms zsm, cs ces, cs cze, ro ron, ro rum, da dan, hu hun, ta tam, no nor, no nob, no nb,
th tha, ur urd, hr hrv, bg bul, lt lit, la lat, mi mri, mi mao, ml mal, cy cym, cy wel, sk slk, sk slo, te tel, fa fas,
fa per, fa pes, lv lav, lv lvs, bn ben, sr srp, az aze, az azj, sl slv, kn kan, et est, et ekk, mk mkd, mk mac, br bre,
eu eus, eu baq, is isl, is ice, hy hye, hy arm, ne nep, ne npi, mn mon, mn khk, bs bos, kk kaz, sq sqi, sq alb, sw swa,
sw swh, gl glg, mr mar, pa pan, si sin, km khm, sn sna, yo yor, so som, af afr, oc oci, ka kat, ka geo, be bel, tg tgk,
sd snd, gu guj, am amh, yi yid, yi ji, lo lao, uz uzb, uz uzn, fo fao, ht hat, ps pus, ps pbt, tk tuk, nn nno, mt mlt,
sa san, lb ltz, my mya, my bur, bo bod, bo tib, tl tgl, tl fil, mg mlg, mg plt, as asm, tt tat, ln lin, ha hau, ba bak,
jw jav, jw jv, su sun
"""
"""Other codes: ISO 639-2 and 639-3, and earlier ones."""


def _pairs(listed: str) -> list[list[str]]:
    return [item.strip().split(" ", 1) for item in listed.split(",")]


_NAMES = {item[0]: item[1] for item in _pairs(NAMES)}
_BY_NAME = {name: code for code, name in _pairs(NAMES) + _pairs(ALIASES)}
_BY_CODE = {code: code for code in _NAMES} | {other: code for code, other in _pairs(CODES)}


def code_of(name: str) -> str:
    """Return Whisper's code of a language given by name, code or locale (`English`, `eng`, `en-US`); "" if unknown."""
    plain = name.strip().lower()
    return _BY_NAME.get(plain) or _BY_CODE.get(plain.replace("_", "-").partition("-")[0], "")


def name_of(code: str) -> str:
    """Return the English name of a language in lower case, as OpenAI states it; the code itself if unknown."""
    return _NAMES.get(code, code)
