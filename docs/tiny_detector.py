"""Write a tiny detector with random weights, to try commands with, to a folder named rtdetr or owlv2."""

import sys
from pathlib import Path

import transformers as hf

NAMES = ["car", "bus", "truck", "person", "dog"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
STAGES = ["stage2", "stage3", "stage4"]


def rtdetr(folder: Path) -> None:
    """Write an RT-DETR of five classes."""
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    config = hf.RTDetrConfig(
        backbone_config=hf.RTDetrResNetConfig(**sizes, out_features=STAGES),
        encoder_in_channels=[12, 16, 20],
        encoder_hidden_dim=32,
        d_model=32,
        decoder_in_channels=[32, 32, 32],
        num_queries=12,
        num_denoising=0,
        decoder_layers=2,
        id2label=dict(enumerate(NAMES)),
        label2id={name: number for number, name in enumerate(NAMES)},
    )
    hf.RTDetrForObjectDetection(config).save_pretrained(folder)
    hf.RTDetrImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


def owlv2(folder: Path) -> None:
    """Write an OWLv2 that reads prompts letter by letter."""
    vocab = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = hf.CLIPTokenizer(vocab={token: n for n, token in enumerate(vocab)}, merges=[], model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": 52, "eos_token_id": 53}
    vision = {**sizes, "image_size": 64, "patch_size": 16}
    config = hf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
    hf.Owlv2ForObjectDetection(config).save_pretrained(folder)
    images = hf.Owlv2ImageProcessor(size={"height": 64, "width": 64})
    hf.Owlv2Processor(images, tokenizer).save_pretrained(folder)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    {"rtdetr": rtdetr, "owlv2": owlv2}[place.name](place)
    print(f"{place}: a detector with random weights")
