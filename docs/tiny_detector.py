"""Write a tiny detector with random weights, to try commands with, to a folder named rtdetr, owlv2 or mask2former."""

import sys
from pathlib import Path

import torch
import transformers as hf

NAMES = ["car", "bus", "truck", "person", "dog"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
STAGES = ["stage2", "stage3", "stage4"]


def labels() -> dict[str, dict]:
    """Return what a config says of the classes."""
    return {"id2label": dict(enumerate(NAMES)), "label2id": {name: number for number, name in enumerate(NAMES)}}


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
        **labels(),
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


def mask2former(folder: Path) -> None:
    """Write a Mask2Former of the same classes."""
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 32}
    layers = {"num_queries": 6, "dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 2}
    swin = {"image_size": 64, "embed_dim": 8, "num_heads": [1, 1, 1, 1], "window_size": 4, "depths": [1, 1, 1, 1]}
    backbone = hf.SwinConfig(**swin, out_features=["stage1", *STAGES])
    config = hf.Mask2FormerConfig(backbone_config=backbone, num_attention_heads=2, **sizes, **layers, **labels())
    model = hf.Mask2FormerForUniversalSegmentation(config)
    torch.nn.init.normal_(model.class_predictor.weight)
    model.save_pretrained(folder)
    hf.Mask2FormerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)


if __name__ == "__main__":
    place = Path(sys.argv[1])
    torch.manual_seed(0)  # by which they find something
    {"rtdetr": rtdetr, "owlv2": owlv2, "mask2former": mask2former}[place.name](place)
    print(f"{place}: a detector with random weights")
