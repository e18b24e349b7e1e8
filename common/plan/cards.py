"""The cards that a plan is for: their memory, and what their vendor says they can do at most."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean

if TYPE_CHECKING:  # a wrong name is refused before PyTorch is there
    import torch

GIGA, TERA = 10**9, 10**12
FLOAT32, TF32 = "float32", "tf32"


@dataclass(frozen=True)
class Card:
    """A card by its published numbers, tensor cores without sparsity.

    Args:
        title: what its vendor calls it.
        memory: bytes.
        bandwidth: of its memory, bytes per second.
        peaks: floating-point operations per second (a multiply-add is two) by PyTorch's name of the operands' type;
            TF32 stands for float32 that tensor cores round.
    """

    title: str
    memory: int
    bandwidth: float
    peaks: Mapping[str, float]

    def peak(self, dtype: "torch.dtype", rounded: bool) -> float:
        """Return the most operations per second on operands of a type.

        Args:
            rounded: whether PyTorch lets tensor cores round float32.
        """
        name = str(dtype).removeprefix("torch.")
        return self.peaks[TF32] if name == FLOAT32 and rounded else self.peaks.get(name, self.peaks[FLOAT32])

    @property
    def half(self) -> str:
        """Return the type of 16 bits to train in: bfloat16, or float16 where tensor cores do not know that."""
        return "bfloat16" if "bfloat16" in self.peaks else "float16"


def _card(
    title: str, memory: float, bandwidth: float, float32: float, tf32: float, half: float, bfloat16: bool = True
) -> Card:
    """Return a card of so many GB, TB/s, and tera operations per second."""
    peaks = {FLOAT32: float32, TF32: tf32, "float16": half, **({"bfloat16": half} if bfloat16 else {})}
    each = {name: value * TERA for name, value in peaks.items()}
    return Card(title, int(memory * GIGA), bandwidth * TERA, each)


CARDS: Mapping[str, Card] = {
    # NVIDIA H100 Tensor Core GPU datasheet, column SXM; its tensor numbers are with sparsity, twice these.
    "h100-80": _card("H100 SXM 80 GB", 80, 3.35, 67, 494.7, 989.4),
    # NVIDIA H200 Tensor Core GPU datasheet, column SXM, likewise.
    "h200": _card("H200 SXM 141 GB", 141, 4.8, 67, 494.7, 989.4),
    # NVIDIA A100 Tensor Core GPU datasheet, column SXM; its first edition has the card of 40 GB.
    "a100-40": _card("A100 SXM 40 GB", 40, 1.555, 19.5, 156, 312),
    "a100-80": _card("A100 SXM 80 GB", 80, 2.039, 19.5, 156, 312),
    # NVIDIA L40S datasheet, which gives each tensor number without and with sparsity.
    "l40s": _card("L40S 48 GB", 48, 0.864, 91.6, 183, 362.05),
    # NVIDIA Ada GPU architecture whitepaper, appendix A; float16 summed in float32, as PyTorch does.
    "rtx-4090": _card("RTX 4090 24 GB", 24, 1.008, 82.6, 82.6, 165.2),
    # NVIDIA V100 Tensor Core GPU datasheet, column SXM2: tensor cores for float16 alone.
    "v100-32": _card("V100 SXM2 32 GB", 32, 0.9, 15.7, 15.7, 125, bfloat16=False),
}


def find_card(name: str) -> Card:
    """Return the card of a name.

    Raises:
        UserError: an unknown one, with the names that are most like it.
    """
    if name.lower() in CARDS:
        return CARDS[name.lower()]
    hint = did_you_mean(name, CARDS, most=2, cutoff=0.4)
    raise UserError(f"--card: there is no card {name}; want one of {', '.join(CARDS)}{hint}")
