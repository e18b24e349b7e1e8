"""What a detector gives for whole training images, kept on disk: DISTILL.TEACHER.CACHE of detection."""
