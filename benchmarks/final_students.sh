#!/usr/bin/env bash
# Train the students whose scores on the official test splits are measured by others: three seeds, alone and by `best`.
#
#   benchmarks/final_students.sh vehicles|camvid
#
# From the root of the repository, with the extra `pretrained`, and the data in datasets/ as the configs name it. Nothing
# was chosen on val. Students are in output/final/DATA/METHOD/seedN/model_final.pth; to score them:
#   uv run densedist eval --weights output/final/vehicles/labels/seed0 DATASETS.TEST "['…']" OUTPUT_DIR output/scores
set -euo pipefail
out=output/final/${1:-}
case ${1:-} in
  vehicles)  # the teacher never sees the photographs that it labels
    uv run densedist train det --config-file det/vehicles/cascade_rcnn_lite2.yaml SOLVER.MAX_ITER 600 \
      DATASETS.TRAIN "['vehicles_train[:100]', 'vehicles_train[220:]']" OUTPUT_DIR "$out/teacher"
    uv run densedist compare --config-file det/vehicles/faster_rcnn_lite0.yaml --methods none,best --seeds 0,1,2 \
      --unlabeled "vehicles_train[100:220]" --output-dir "$out" \
      SOLVER.IMS_PER_BATCH 4 SOLVER.MAX_ITER 1200 DISTILL.TEACHER.WEIGHTS "$out/teacher"
    ;;
  camvid)  # the teacher knows 184 frames, and labels the 183 others, of which the student has no label either
    uv run densedist train seg --config-file seg/camvid/deeplabv3plus_lite2.yaml SOLVER.MAX_ITER 2000 \
      DATASETS.TRAIN "['train[:184]']" OUTPUT_DIR "$out/teacher"
    uv run densedist compare --config-file seg/camvid/pspnet_lite0.yaml --methods none,best --seeds 0,1,2 \
      --unlabeled "train[184:]" --output-dir "$out" \
      SOLVER.IMS_PER_BATCH 4 SOLVER.MAX_ITER 3000 DISTILL.TEACHER.WEIGHTS "$out/teacher"
    ;;
  *)
    echo "usage: benchmarks/final_students.sh vehicles|camvid" >&2
    exit 2
    ;;
esac
