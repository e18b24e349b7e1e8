"""Names of the files in a run's folder."""

CONFIG, FINAL, BEST, LAST, METRICS, LOG = (
    "config.yaml",
    "model_final.pth",
    "model_best.pth",
    "last_checkpoint",
    "metrics.json",
    "log.txt",
)
