"""espeak-ng as a library: text to 16 kHz speech."""

import ctypes
import tempfile
from importlib.metadata import version
from pathlib import Path

import espeakng_loader
import numpy as np
import numpy.typing as npt
import soxr

SAMPLE_RATE = 16_000
Audio = npt.NDArray[np.int16]  # mono, 16 kHz


class Espeak:
    """espeak-ng as a library. It keeps state from one utterance to the next, so one instance speaks one language."""

    _RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
    _SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
    _LONGEST_PATH = 120  # characters; espeak-ng cuts a data path of 160 or more

    def __init__(self, seed: int) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
        self._short_path = tempfile.TemporaryDirectory(prefix="espeak-")
        if len(data) > self._LONGEST_PATH:
            link = Path(self._short_path.name) / "espeak-ng-data"
            link.symlink_to(data)
            data = str(link)
        self._rate = self._library.espeak_Initialize(self._SYNCHRONOUS, 0, data.encode(), self._DONT_EXIT)
        if self._rate <= 0:
            raise OSError(f"espeak-ng does not start with its data in {data}; reinstall espeakng-loader")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._chunks: list[bytes] = []
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(self._keep)  # kept here, or it is collected while espeak-ng still calls it
        self._library.espeak_SetSynthCallback(self._callback)

    def _keep(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._chunks.append(ctypes.string_at(samples, 2 * count))
        return 0

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int, volume: int) -> Audio:
        """Return `text` as 16 kHz mono. `rate` is in words per minute, the others run from 0 to 100."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeakng-loader {version('espeakng-loader')} has no voice {voice!r}")
        parameters = {self._RATE: rate, self._PITCH: pitch, self._RANGE: pitch_range, self._VOLUME: volume}
        for parameter, value in parameters.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        encoded = text.encode()
        size = ctypes.c_size_t(len(encoded) + 1)
        if self._library.espeak_Synth(encoded, size, 0, 0, 0, self._UTF8, None, None) != 0:
            raise OSError(f"espeak-ng cannot speak {text!r} with voice {voice!r}")
        spoken = np.frombuffer(b"".join(self._chunks), dtype=np.int16)
        # In float32, because soxr dithers int16 output with noise that differs from run to run.
        resampled = soxr.resample(spoken.astype(np.float32), self._rate, SAMPLE_RATE)
        audio: Audio = np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
        return audio
