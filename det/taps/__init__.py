"""What the parts of a detector give to distillation: the student's taps and the teacher's, part by part."""
