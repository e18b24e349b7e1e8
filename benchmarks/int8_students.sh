#!/usr/bin/env bash
# Train a student of each kind, short, and measure what 8 bits lose in each runtime: docs/export.md.
#
#   benchmarks/int8_students.sh [KIND ...]
#
# From the root of the repository, with the extras `pretrained`, `openvino` and `int8`, and the data in datasets/ as the
# configs name it. A table for each kind is in output/int8/KIND/export/int8.json. All latencies by turns, afterwards:
#   uv run tools/benchmark.py runtimes --weights output/int8/*
set -euo pipefail
seg=(SOLVER.IMS_PER_BATCH 4 SOLVER.MAX_ITER 900 DATASETS.TRAIN "['train[:1200]']")
det=(SOLVER.IMS_PER_BATCH 4 SOLVER.MAX_ITER 400 DATASETS.TRAIN "['vehicles_train[:339]']")
scratch=(seg --config-file seg/idd_lite/pspnet_lite0.yaml "${seg[@]}" MODEL.ENCODER.WEIGHTS "")
if [ $# -eq 0 ]; then
  set -- pspnet_lite0 deeplabv3plus_lite0 pspnet_r18 segformer_b0 faster_rcnn_lite0 retinanet_lite0 mask_rcnn
fi
for kind in "$@"; do
  case $kind in
    pspnet_lite0 | deeplabv3plus_lite0) keys=(seg --config-file "seg/idd_lite/$kind.yaml" "${seg[@]}") ;;
    pspnet_r18) keys=("${scratch[@]}" MODEL.ENCODER.NAME resnet18) ;;
    segformer_b0) keys=(seg --config-file seg/idd_lite/base.yaml "${seg[@]}" MODEL.ARCHITECTURE Segformer
      MODEL.ENCODER.NAME mit_b0 MODEL.ARGS.decoder_segmentation_channels 64 SOLVER.BASE_LR 0.0005) ;;
    faster_rcnn_lite0 | retinanet_lite0) keys=(det --config-file "det/vehicles/$kind.yaml" "${det[@]}") ;;
    mask_rcnn) keys=(det --config-file det/digits/mask_rcnn_r10_quarter.yaml DATASETS.TRAIN "['digits_train']") ;;
    *)
      echo "usage: benchmarks/int8_students.sh [KIND ...]; there is no kind $kind" >&2
      exit 2
      ;;
  esac
  uv run densedist train "${keys[@]}" TEST.EVAL_PERIOD 100000 OUTPUT_DIR "output/int8/$kind"
  uv run densedist export --weights "output/int8/$kind" --format onnx,openvino --int8
done
