"""The keys that say what a model is, where another project may have built it; both tasks have them."""

from collections.abc import Mapping

from densedist.common.config.keys import Key, at_least, of_files, one_of
from densedist.common.foreign.kinds import FOREIGN


def kind_keys(own: str, meaning: str) -> Mapping[str, Key]:
    """Return the keys of a task's models and teachers.

    Args:
        own: MODEL.KIND of the models that the task itself builds, the default.
        meaning: of MODEL.KIND.
    """
    return {
        "MODEL.KIND": one_of(own, *FOREIGN, meaning=meaning),
        "MODEL.STRIDE": at_least(
            1, default=32, meaning="A program's or function's images have multiples of it as height and width."
        ),
        "DISTILL.TEACHER.KIND": of_files(
            one_of("auto", own, *FOREIGN, meaning="What the teacher is; auto: as its files show."), "MODEL.KIND"
        ),
        "DISTILL.TEACHER.STRIDE": of_files(
            at_least(0, default=0, words="0 (not said) or more", meaning="MODEL.STRIDE of a teacher without a config."),
            "MODEL.STRIDE",
        ),
        "DISTILL.TEACHER.PIXEL_MEAN": _pixels("MODEL.PIXEL_MEAN"),
        "DISTILL.TEACHER.PIXEL_STD": _pixels("MODEL.PIXEL_STD"),
    }


def _pixels(name: str) -> Key:
    meaning = f"{name} of a teacher without a config."
    return of_files(Key([], lambda values: len(values) in (0, 3), "three numbers", meaning=meaning), name)
