"""Greedy (best path) CTC decoding: the most likely unit per frame, repeats merged, blanks removed."""

import torch

BLANK = 0  # fairseq's CTC blank is <s>, id 0


def greedy(emissions_BTV: torch.Tensor, frames_B: torch.Tensor) -> list[list[int]]:
    """Unit ids of each utterance from emissions (any monotone scores) and its number of frames."""
    best_BT = emissions_BTV.argmax(-1).cpu()
    decoded = []
    for row, frames in enumerate(frames_B.tolist()):
        units = best_BT[row, :frames].unique_consecutive()
        decoded.append(units[units != BLANK].tolist())
    return decoded
