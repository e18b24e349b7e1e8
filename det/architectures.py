"""Which registered meta-architectures distill, and which key of a config has their number of classes."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from densedist.common.config.keys import value_of
from densedist.det.distilling import Distilling


def distilling_classes() -> dict[str, type[Distilling]]:
    """Return all registered meta-architectures that distill, by name."""
    # A function may be registered, too.
    return {name: kind for name, kind in META_ARCH_REGISTRY if isinstance(kind, type) and issubclass(kind, Distilling)}


def distilling_class(architecture: str) -> type[Distilling] | None:
    """Return the class of that name, or the first one of which it is the stock class; None if there is none."""
    classes = distilling_classes()
    stock = (kind for kind in classes.values() if kind.stock.__name__ == architecture)
    return classes.get(architecture) or next(stock, None)


def classes_key(cfg: CfgNode) -> str:
    """Return the key that has the number of classes of the config's detector."""
    kind = distilling_class(cfg.MODEL.META_ARCHITECTURE)
    return kind.classes_key if kind else "MODEL.ROI_HEADS.NUM_CLASSES"


def class_count(cfg: CfgNode) -> int:
    """Return the number of classes of the config's detector, without background."""
    return value_of(cfg, classes_key(cfg))
