"""What the method `best` of densedist compare and tune stands for: the recipe that is recommended for images without
labels, by what was measured (docs/unlabeled.md)."""

# A method, with keys after @, as of common/compare/methods.py.
BEST = "labels@SCORE_THRESHOLD=0;SHARE=0.5"
