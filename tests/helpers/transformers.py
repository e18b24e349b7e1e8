"""Small models of transformers, with random weights, in folders as their save_pretrained writes them."""

import torch
import transformers as hf  # loads each model when it is asked for

from densedist.common.profile import as_if_trained

NAMES = ["background"] + [str(number) for number in range(10)]
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
STAGES = {"depths": [1, 1, 1, 1], "out_features": ["stage1", "stage2", "stage3", "stage4"]}


def segformer(labels):
    sizes = {"hidden_sizes": [8, 16, 24, 32], "decoder_hidden_size": 16, "num_attention_heads": [1, 1, 2, 2]}
    return hf.SegformerForSemanticSegmentation(hf.SegformerConfig(depths=[1, 1, 1, 1], **sizes, **labels))


def upernet(labels):
    backbone = hf.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], **STAGES)
    more = {"hidden_size": 16, "auxiliary_channels": 8, "auxiliary_in_channels": 24}
    return hf.UperNetForSemanticSegmentation(hf.UperNetConfig(backbone_config=backbone, **more, **labels))


def mask2former(labels):
    backbone = hf.SwinConfig(image_size=64, embed_dim=8, num_heads=[1, 1, 1, 1], window_size=4, **STAGES)
    sizes = {"hidden_dim": 32, "feature_size": 32, "mask_feature_size": 32, "encoder_feedforward_dim": 32}
    layers = {"num_queries": 6, "dim_feedforward": 32, "encoder_layers": 1, "decoder_layers": 2}
    config = hf.Mask2FormerConfig(backbone_config=backbone, num_attention_heads=2, **sizes, **layers, **labels)
    return hf.Mask2FormerForUniversalSegmentation(config)


VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
VIT |= {"image_size": 64, "patch_size": 16}


def eomt(labels, kind="Eomt"):
    config = getattr(hf, f"{kind}Config")(**VIT, num_blocks=1, num_queries=6, num_upscale_blocks=2, **labels)
    return getattr(hf, f"{kind}ForUniversalSegmentation")(config)


def dpt(labels):
    own = {"is_hybrid": False, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16]}
    return hf.DPTForSemanticSegmentation(hf.DPTConfig(**VIT, **own, fusion_hidden_size=16, **labels))


def data2vec(labels):
    own = {"use_relative_position_bias": True, "out_indices": [1, 2, 3, 4], "pool_scales": [1, 2]}
    config = hf.Data2VecVisionConfig(**VIT, **own, auxiliary_channels=8, **labels)
    return hf.Data2VecVisionForSemanticSegmentation(config)


def maskformer(labels):
    backbone = hf.SwinConfig(image_size=64, embed_dim=8, num_heads=[1, 1, 1, 1], window_size=4, **STAGES)
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    decoder = hf.DetrConfig(d_model=32, num_queries=6, encoder_layers=1, decoder_layers=1, **heads)
    own = {"fpn_feature_size": 32, "mask_feature_size": 32}
    config = hf.MaskFormerConfig(backbone_config=backbone, decoder_config=decoder, **own, **labels)
    return hf.MaskFormerForInstanceSegmentation(config)


# They take images of 64 x 64 pixels alone.
OF_ONE_SIZE = {
    "eomt": eomt,
    "eomt of dinov3": lambda labels: eomt(labels, "EomtDinov3"),
    "dpt": dpt,
    "data2vec": data2vec,
}
KINDS = {"segformer": segformer, "upernet": upernet, "mask2former": mask2former}
OTHERS = {"maskformer": maskformer}


def write(kind, folder, names=NAMES, processor=True, dtype=torch.float32):
    """The model, in a precision, written to the folder with a processor of its own normalization; given in float32."""
    torch.manual_seed(0)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    model = as_if_trained((KINDS | OF_ONE_SIZE | OTHERS)[kind](labels)).eval().to(dtype)
    model.save_pretrained(folder)
    if processor:
        hf.SegformerImageProcessor(image_mean=MEAN, image_std=STD).save_pretrained(folder)
    return model.float()


def normalized(images):
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return torch.stack([(image - mean) / std for image in images])
