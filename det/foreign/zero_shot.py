"""What a zero-shot detector is asked for, a prompt a class, and which prompt each of its boxes is of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from densedist.common.errors import UserError
from densedist.det.foreign.detector import Found

POST = "post_process_grounded_object_detection"
STOPS = (".", "?")  # between the prompts of Grounding DINO, which reads all of them as one text


@dataclass(frozen=True)
class Prompts:
    """The prompts of all classes, in order.

    Args:
        texts: as OWL-ViT, OWLv2 and OmDet-Turbo take them.
        spans: of Grounding DINO, which scores tokens: those of each prompt; empty = it scores prompts.
    """

    texts: tuple[str, ...]
    spans: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of(cls, texts: Sequence[str], processor: Any, config: Any, source: str) -> "Prompts":
        """Return the prompts for a model.

        Args:
            processor, config: of the model.
            source: what names the model, for messages.

        Raises:
            UserError: an empty one, two alike, or more than the model reads.
        """
        if wrong := [text for text in texts if not text.strip() or list(texts).count(text) > 1]:
            raise UserError(f"{source}: the prompt {wrong[0]!r} is empty, or there twice: want one for each class")
        if not hasattr(processor, POST):
            raise UserError(f"{source}: {type(processor).__name__} has no {POST}, so nothing says where its boxes are")
        if not type(processor).__name__.startswith("GroundingDino"):
            return cls(tuple(texts))
        if wrong := [text for text in texts if any(stop in text for stop in STOPS)]:
            raise UserError(f"{source} ends a prompt at {' and '.join(STOPS)}: leave it out of {wrong[0]!r}")
        tokens = processor(text=[list(texts)], return_tensors="pt")["input_ids"][0].tolist()
        tokenizer = processor.tokenizer
        ends = {*tokenizer.all_special_ids, *tokenizer.convert_tokens_to_ids(list(STOPS))} - {tokenizer.unk_token_id}
        spans, open_one = list[list[int]](), False
        for place, token in enumerate(tokens):
            if token in ends:
                open_one = False
            elif open_one:
                spans[-1].append(place)
            else:
                spans.append([place])
                open_one = True
        limit = getattr(config, "max_text_len", tokenizer.model_max_length)
        if len(spans) != len(texts) or len(tokens) > limit:
            raise UserError(
                f"{source} reads {limit} tokens at most, and no prompt of punctuation alone: want fewer or shorter "
                f"prompts than these {len(texts)}"
            )
        return cls(tuple(texts), tuple(map(tuple, spans)))

    def of_processor(self) -> dict[str, Any]:
        """Return what the processor takes next to one image."""
        return {"text": [list(self.texts)]}

    def found(self, processor: Any, outputs: Any, target: Mapping[str, Any]) -> list[Found]:
        """Return what the library's post-processing gives for a batch; labels are numbers of prompts.

        Args:
            target: threshold and target_sizes of that post-processing.
        """
        found = getattr(processor, POST)(outputs, **target)
        if not hasattr(outputs, "logits"):  # OmDet-Turbo's are suppressed within
            return [Found(one["boxes"], one["scores"], one["labels"]) for one in found]
        each = [self._of_prompts(logits, target["threshold"]) for logits in outputs.logits]
        both = zip(found, each, strict=True)
        labels = [logits.sigmoid().argmax(1) if self.spans else one["labels"] for one, logits in both]
        boxes, scores = ([one[name] for one in found] for name in ("boxes", "scores"))
        return list(map(Found, boxes, scores, labels, each))

    def _of_prompts(self, logits: Tensor, threshold: float) -> Tensor:
        """Return the logits of the prompts, for the queries of an image that the library keeps: of a prompt of several
        tokens the highest one.

        Args:
            logits: (queries, tokens), or of prompts.
        """
        kept = logits[logits.sigmoid().max(-1)[0] > threshold]
        return torch.stack([kept[:, list(span)].amax(1) for span in self.spans], 1) if self.spans else kept
