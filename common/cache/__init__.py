"""A teacher's outputs for each image, computed once and kept on disk: DISTILL.TEACHER.CACHE of both tasks."""
