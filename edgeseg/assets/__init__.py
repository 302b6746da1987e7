"""What edgeseg carries: its own small trained network, used where no checkpoint is named."""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = "connectnet_portrait.safetensors"


def bundled() -> Path:
    """The bundled checkpoint's file; its model card is ``MODEL_CARD.md`` beside it."""
    return Path(__file__).parent / CHECKPOINT
