"""Distillation: what models give to it, the losses between what two of them give, and the teacher."""
