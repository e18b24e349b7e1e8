"""Small models of masks of transformers, with random weights, in folders as their save_pretrained writes them."""

import json

import torch
import transformers as hf  # loads each model when it is asked for

from helpers.detectors import SMALL, STAGES, SWIN, clip, labels, resnet, rf_detr
from helpers.transformers import eomt, mask2former, maskformer

TASK_TOKENS = 8


def oneformer():
    backbone = hf.SwinConfig(**SWIN, out_features=STAGES)
    text = {"text_encoder_width": 16, "text_encoder_num_layers": 1, "text_encoder_vocab_size": 60}
    sizes = {"conv_dim": 32, "mask_dim": 32, "hidden_dim": 32, "encoder_feedforward_dim": 32, "dim_feedforward": 32}
    layers = {"num_queries": 6, "encoder_layers": 1, "decoder_layers": 2, "query_dec_layers": 1}
    config = hf.OneFormerConfig(
        backbone_config=backbone, num_attention_heads=2, task_seq_len=TASK_TOKENS, **text, **sizes, **layers, **labels()
    )
    return hf.OneFormerForUniversalSegmentation(config)


def detr():
    own = {"backbone_config": resnet(out_features=STAGES), "use_timm_backbone": False, "backbone": None}
    sizes = SMALL | {"d_model": 128, "encoder_attention_heads": 8}
    return hf.DetrForSegmentation(hf.DetrConfig(**own, **sizes, **labels()))


def rf_detr_of_masks():
    return hf.RfDetrForInstanceSegmentation(rf_detr().config)


SQUARE = {"height": 64, "width": 64}
OF_ONE_SIDE = {"shortest_edge": 64, "longest_edge": 64}


def of_oneformer():
    images = hf.OneFormerImageProcessor(size=SQUARE, class_info_file="")
    return hf.OneFormerProcessor(images, clip(), task_seq_length=TASK_TOKENS)


def of_eomt():
    return hf.EomtImageProcessor(size=OF_ONE_SIDE, do_pad=True)


KINDS = {
    "mask2former": (lambda: mask2former(labels()), lambda: hf.Mask2FormerImageProcessor(size=SQUARE)),
    "maskformer": (lambda: maskformer(labels()), lambda: hf.MaskFormerImageProcessor(size=SQUARE)),
    "oneformer": (oneformer, of_oneformer),
    "eomt": (lambda: eomt(labels()), of_eomt),
    "eomt of dinov3": (lambda: eomt(labels(), "EomtDinov3"), of_eomt),
    "detr": (detr, lambda: hf.DetrImageProcessor(size=SQUARE)),
    "rf-detr": (rf_detr_of_masks, lambda: hf.RfDetrImageProcessor(size=SQUARE)),
}
# Opinions, which random models do not have: the deviation of weights whose name has this part.
OPINIONS = {"class": 2.0, "output_conv": 0.5, "queries_embedder": 3.0, "query_position": 3.0}
SEEDS = {"detr": 2}  # by which its masks are not of next to nothing, or of everything


def write(kind, folder, processor=True):
    """The model and its processor, written to the folder."""
    torch.manual_seed(SEEDS.get(kind, 0))
    build, processing = KINDS[kind]
    model, ours = build().eval(), processing()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1 and (said := [std for part, std in OPINIONS.items() if part in name]):
            torch.nn.init.normal_(parameter, std=said[0])
    model.save_pretrained(folder)
    if processor:
        ours.save_pretrained(folder)
    return model, ours


def as_published(folder):
    """A folder of a OneFormer, as its authors' are: the names of classes lie on the hub."""
    file = folder / "processor_config.json"
    config = json.loads(file.read_text())
    config["image_processor"] |= {"class_info_file": "coco_panoptic.json", "repo_path": "shi-labs/oneformer_demo"}
    file.write_text(json.dumps(config))
