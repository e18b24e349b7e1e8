"""Names of the files in a run's folder, and by which the folders of predict and visualize are known."""

CONFIG, FINAL, BEST, LAST, METRICS, LOG, REPORT = (
    "config.yaml",
    "model_final.pth",
    "model_best.pth",
    "last_checkpoint",
    "metrics.json",
    "log.txt",
    "report.html",
)
PREDICTIONS, OVERVIEW = "predictions.json", "overview.png"
