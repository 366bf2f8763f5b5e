"""The default text reader: the two networks of PP-OCR (places of lines, text of a line), run with ONNX on a CPU."""

import math
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from transcription_assets.errors import PermanentFailure
from transcription_assets.media.pictures import Pixels
from transcription_assets.models import Located
from transcription_assets.slides.boxes import Map, Place, decode, places_of
from transcription_assets.slides.reader import Box, Line

if TYPE_CHECKING:
    from PIL.Image import Image

DETECTION = "detection.onnx"
RECOGNITION = "recognition.onnx"
LOW_SIDE = 640
"""Longer side at which it is decided whether a picture has text at all; a quarter of the time of the whole picture."""
LINE_HEIGHT = 48
"""Height of a line as the network reads it."""
WIDEST = 3200
"""Width of the longest line; a longer one is compressed."""
TALL = 1.5
"""Ratio of height and width from which a line counts as vertical."""
LEAST_CONFIDENCE = 0.7
"""Lines of less are left out: most of them are texture, not text."""
_MULTIPLE = 32


class LocalReader:
    """A `TextReader` with the weights of the catalogue; they are loaded at the first picture."""

    def __init__(self, located: Located, threads: int = 1) -> None:
        self._located = located
        self._threads = threads

    @property
    def model(self) -> str:
        """Name and revision of the weights."""
        return f"{self._located.name}@{self._located.revision}"

    @property
    def options(self) -> dict[str, Any]:
        """The least confidence of a line."""
        return {"least_confidence": LEAST_CONFIDENCE}

    def find(self, pixels: Pixels) -> list[Box]:
        """Return where the picture has text; see `TextReader`.

        Raises:
            PermanentFailure: the weights cannot be loaded.

        """
        return [place.box for place in self._places(_picture(pixels), LOW_SIDE)]

    def read(self, pixels: Pixels) -> list[Line]:
        """Return the lines of text; see `TextReader`.

        Raises:
            PermanentFailure: the weights cannot be loaded.

        """
        picture = _picture(pixels)
        lines = (self._line(picture, place) for place in self._places(picture, max(picture.size)))
        return [line for line in lines if line.text and line.confidence >= LEAST_CONFIDENCE]

    def _places(self, picture: "Image", side: int) -> list[Place]:
        from PIL.Image import Resampling

        scale = max(picture.size) / side
        # Padded instead of stretched: both axes keep the same scale.
        width, height = (max(1, round(length / scale)) for length in picture.size)
        across, down = (math.ceil(length / _MULTIPLE) * _MULTIPLE for length in (width, height))
        canvas = np.zeros((down, across, 3), np.uint8)
        canvas[:height, :width] = np.asarray(picture.resize((width, height), Resampling.BILINEAR))
        probabilities: Map = self._run(self._detection, canvas)[0]
        return places_of(probabilities[:height, :width], scale)

    def _line(self, picture: "Image", place: Place) -> Line:
        from PIL.Image import Resampling, Transform, Transpose

        size = (max(1, round(place.width)), max(1, round(place.height)))
        part = picture.transform(size, Transform.QUAD, place.corners, Resampling.BILINEAR)
        vertical = place.height >= TALL * place.width
        if not vertical:
            text, confidence = self._text(part)
        else:  # its letters may be turned to either side
            turned = (part.transpose(Transpose.ROTATE_90), part.transpose(Transpose.ROTATE_270))
            text, confidence = max((self._text(item) for item in turned), key=lambda found: found[1])
        return Line(text.strip(), confidence, place.box, vertical)

    def _text(self, part: "Image") -> tuple[str, float]:
        from PIL.Image import Resampling

        width = min(max(round(LINE_HEIGHT * part.width / part.height), _MULTIPLE // 2), WIDEST)
        scaled = part.resize((width, LINE_HEIGHT), Resampling.BILINEAR)
        return decode(self._run(self._recognition, np.asarray(scaled)), self._characters)

    @staticmethod
    def _run(session: Any, pixels: Pixels) -> Map:
        """Return the output of a network for one picture; it takes blue, green and red in [-1, 1]."""
        values = pixels[:, :, ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
        output: Map = session.run(None, {"x": np.ascontiguousarray(values.transpose(2, 0, 1))[None]})[0][0]
        return output

    @cached_property
    def _detection(self) -> Any:
        return self._session(DETECTION)

    @cached_property
    def _recognition(self) -> Any:
        return self._session(RECOGNITION)

    @cached_property
    def _characters(self) -> list[str]:
        stored = self._recognition.get_modelmeta().custom_metadata_map["character"]
        return ["", *stored.split("\n"), " "]

    def _session(self, file: str) -> Any:
        path = self._located.path / file
        try:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = self._threads
            options.inter_op_num_threads = 1
            options.enable_cpu_mem_arena = False  # inputs differ in size: the arena would keep the largest of each
            return onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises errors of many classes for a damaged file
            hint = "run `transcription-assets models pull`"
            raise PermanentFailure(f"the weights in {path} cannot be loaded ({error}); {hint}", hint=hint) from error


def _picture(pixels: Pixels) -> "Image":
    from PIL import Image

    return Image.fromarray(pixels)
