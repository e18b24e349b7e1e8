"""Small detectors of transformers, with random weights, in folders as their save_pretrained writes them."""

import torch
import transformers as hf  # loads each model when it is asked for

NAMES = ["car", "bus", "truck", "N/A", "person", "N/A", "dog"]
STAGES = ["stage1", "stage2", "stage3", "stage4"]
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
SMALL = {"d_model": 32, "num_queries": 12, "encoder_layers": 1, "decoder_layers": 2, **HEADS}


def labels():
    return {"id2label": dict(enumerate(NAMES)), "label2id": {name: n for n, name in enumerate(NAMES)}}


def resnet(**more):
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return hf.ResNetConfig(**sizes, **({"out_features": STAGES[1:]} | more))


def detr(kind="Detr", **more):
    config = getattr(hf, f"{kind}Config")
    more |= {"hidden_size": 32} if kind == "DabDetr" else {}
    own = {"backbone_config": resnet(out_features=STAGES[3:]), "use_timm_backbone": False, "backbone": None}
    return getattr(hf, f"{kind}ForObjectDetection")(config(**own, **SMALL, **more, **labels()))


def with_timm(kind="Detr"):
    """As the published ones: the backbone is timm's."""
    backbone = hf.TimmBackboneConfig(backbone="resnet10t", out_indices=[4], use_pretrained_backbone=False)
    config = getattr(hf, f"{kind}Config")(backbone_config=backbone, **SMALL, **labels())
    return getattr(hf, f"{kind}ForObjectDetection")(config)


def deformable():
    own = {"backbone_config": resnet(), "use_timm_backbone": False, "backbone": None, "num_feature_levels": 4}
    return hf.DeformableDetrForObjectDetection(hf.DeformableDetrConfig(**own, **(SMALL | {"d_model": 64}), **labels()))


def rt_detr(kind="RTDetr", **more):
    backbone = hf.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type="basic", out_features=STAGES[1:]
    )
    own = {"backbone_config": backbone, "encoder_in_channels": [12, 16, 20], "encoder_hidden_dim": 32, "d_model": 32}
    own |= {"decoder_in_channels": [32, 32, 32], "num_queries": 12, "num_denoising": 0, "decoder_layers": 2, **HEADS}
    own |= {"hidden_expansion": 0.5, "feat_strides": [8, 16, 32]}
    return getattr(hf, f"{kind}ForObjectDetection")(getattr(hf, f"{kind}Config")(**(own | more), **labels()))


def hgnet(kind, **more):
    backbone = hf.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 12, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 12, 16, 20],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        embedding_size=8,
        hidden_sizes=[8, 12, 16, 20],
        depths=[1, 1, 1, 1],
        out_features=STAGES[1:],
    )
    return rt_detr(kind, backbone_config=backbone, **more)


def lw_detr():
    backbone = hf.LwDetrViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16,
        pretrain_image_size=64, window_block_indices=[0], out_indices=[1, 2], num_windows=4,
    )  # fmt: skip
    own = {"d_model": 32, "num_queries": 6, "decoder_layers": 2, "decoder_ffn_dim": 16, "group_detr": 1}
    own |= {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2, "hidden_expansion": 0.5}
    own |= {"projector_scale_factors": [2.0, 0.5]}
    return hf.LwDetrForObjectDetection(hf.LwDetrConfig(backbone_config=backbone, **own, **labels()))


def rf_detr():
    own = {"d_model": 32, "num_queries": 6, "decoder_layers": 2, "decoder_ffn_dim": 16, "group_detr": 1}
    own |= {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2, "hidden_expansion": 0.5}
    backbone = hf.RfDetrDinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16, mlp_ratio=1,
        out_features=["stage1", "stage2"], num_windows=2,
    )  # fmt: skip
    return hf.RfDetrForObjectDetection(hf.RfDetrConfig(backbone_config=backbone, **own, **labels()))


def yolos():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = hf.YolosConfig(**sizes, image_size=[64, 64], num_detection_tokens=8, **labels())
    return hf.YolosForObjectDetection(config)


LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Four prompts, so that tokens of one and of two words are there.
PROMPTS = ["a car", "bus", "a red truck", "dog"]


def bert():
    """A tokenizer of single letters."""
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *LETTERS, *(f"##{x}" for x in LETTERS)]
    return hf.BertTokenizer(vocab={token: n for n, token in enumerate(vocab)}, model_max_length=512)


def clip():
    vocab = [*LETTERS, *(f"{x}</w>" for x in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return hf.CLIPTokenizer(vocab={token: n for n, token in enumerate(vocab)}, merges=[], model_max_length=16)


SWIN = {"image_size": 64, "embed_dim": 8, "num_heads": [1, 1, 1, 1], "window_size": 4, "depths": [1, 1, 1, 1]}


def grounding_dino(kind="GroundingDino"):
    text = hf.BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    own = {"backbone_config": hf.SwinConfig(**SWIN, out_features=STAGES[1:]), "text_config": text, **SMALL}
    own |= {"d_model": 64, "num_feature_levels": 4, "max_text_len": 64}
    return getattr(hf, f"{kind}ForObjectDetection")(getattr(hf, f"{kind}Config")(**own))


def owl(kind):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 16, "bos_token_id": 52, "eos_token_id": 53}
    config = getattr(hf, f"{kind}Config")(
        text_config=text, vision_config={**sizes, "image_size": 64, "patch_size": 16}, projection_dim=16
    )
    return getattr(hf, f"{kind}ForObjectDetection")(config)


def omdet():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = hf.CLIPTextConfig(**sizes, vocab_size=60, max_position_embeddings=77, projection_dim=16, eos_token_id=53)
    own = {"text_projection_in_dim": 16, "text_projection_out_dim": 16, "class_embed_dim": 16, "num_queries": 12}
    own |= {"task_encoder_hidden_dim": 16, "encoder_hidden_dim": 32, "vision_features_channels": [32, 32, 32]}
    own |= {"encoder_in_channels": [16, 32, 64], "encoder_attention_heads": 2, "encoder_dim_feedforward": 16}
    own |= {"decoder_hidden_dim": 32, "decoder_num_heads": 2, "decoder_num_layers": 1, "decoder_dim_feedforward": 16}
    backbone = hf.SwinConfig(**SWIN, out_features=STAGES[1:])
    own |= {"apply_layernorm_after_vision_backbone": False}
    config = hf.OmDetTurboConfig(text_config=text, backbone_config=backbone, image_size=64, **own)
    return hf.OmDetTurboForObjectDetection(config)


ZERO_SHOT = {
    "grounding dino": (grounding_dino, hf.GroundingDinoProcessor, hf.GroundingDinoImageProcessor, bert),
    "mm grounding dino": (
        lambda: grounding_dino("MMGroundingDino"), hf.GroundingDinoProcessor, hf.GroundingDinoImageProcessor, bert
    ),
    "owl-vit": (lambda: owl("OwlViT"), hf.OwlViTProcessor, hf.OwlViTImageProcessor, clip),
    "owlv2": (lambda: owl("Owlv2"), hf.Owlv2Processor, hf.Owlv2ImageProcessor, clip),
    "omdet-turbo": (omdet, hf.OmDetTurboProcessor, hf.DetrImageProcessor, clip),
}  # fmt: skip

KINDS = {
    "detr": (detr, hf.DetrImageProcessor),
    "detr of timm": (with_timm, hf.DetrImageProcessor),
    "conditional detr": (lambda: detr("ConditionalDetr"), hf.ConditionalDetrImageProcessor),
    "dab detr": (lambda: detr("DabDetr"), hf.ConditionalDetrImageProcessor),
    "table transformer": (lambda: detr("TableTransformer"), hf.DetrImageProcessor),
    "deformable detr": (deformable, hf.DeformableDetrImageProcessor),
    "rt-detr": (rt_detr, hf.RTDetrImageProcessor),
    "rt-detr v2": (lambda: rt_detr("RTDetrV2"), hf.RTDetrImageProcessor),
    "d-fine": (lambda: hgnet("DFine"), hf.RTDetrImageProcessor),
    "deimv2": (lambda: hgnet("Deimv2"), hf.RTDetrImageProcessor),
    "lw-detr": (lw_detr, hf.DeformableDetrImageProcessor),
    "rf-detr": (rf_detr, hf.RfDetrImageProcessor),
    "yolos": (yolos, hf.YolosImageProcessor),
}


def write(kind, folder, processor=True):
    """The model and its processor, written to the folder."""
    torch.manual_seed(4)
    size = {"height": 64, "width": 64}
    if kind in KINDS:
        build, of_images = KINDS[kind]
        ours = of_images(size=size)
    else:
        build, of_both, of_images, of_text = ZERO_SHOT[kind]
        ours = of_both(of_images(size=size), of_text())
    model = build().eval()
    for name, parameter in model.named_parameters():  # opinions, which random detectors do not have
        if parameter.dim() > 1 and ("class" in name or "score" in name):
            torch.nn.init.normal_(parameter, std=0.5)
        elif parameter.dim() > 1 and "bbox" in name:
            torch.nn.init.normal_(parameter, std=0.2)
        elif "class" in name and name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    model.save_pretrained(folder)
    if processor:
        ours.save_pretrained(folder)
    return model, ours
