"""The commands about data: check, prepare."""

import argparse
from pathlib import Path

from densedist.command.arguments import Parser, add_config, add_output, add_words

PICTURES = 10


def add_check(parser: Parser) -> None:
    """Show how data is read: images, classes, pictures with labels."""
    name = "D/FOLDER_CONFIG.png, where FOLDER/CONFIG.yaml is the config"
    parser.epilog = f"Writes {PICTURES} images with their labels to {name}. A problem is reported in one line."
    add_config(parser, "config of a student or teacher that uses the data")
    add_output(parser, "output/check")
    add_words(parser, "--config-file F")
    parser.set_defaults(trains=False)


def check(args: argparse.Namespace) -> None:
    from densedist.common.data.overlap import overlaps
    from densedist.common.data.sides import SIDES
    from densedist.common.data.survey import classes_table, images_table
    from densedist.common.errors import UserError
    from densedist.tasks import task_named

    task = task_named(args.task)
    cfg = task.load_config(args.config_file, args.overrides)
    task.check_data(cfg)
    sides = [side for side in SIDES if cfg.DATASETS[side]]
    if not sides:
        raise UserError("DATASETS.TRAIN, UNLABELED and TEST are empty: name the data")
    surveys = [task.survey(cfg, side) for side in sides]
    file = args.output_dir / _picture_of(args.config_file)
    if file.is_file():
        print(f"{file} is replaced")
    task.draw_data(cfg, sides[0], PICTURES, file)
    shared = overlaps(cfg, task.images)
    print(images_table(surveys), classes_table(surveys), *shared, f"{file}: images with their labels", sep="\n\n")


def _picture_of(config: str) -> str:
    """Return the name of a config's picture: that of its folder and its own, as many folders have a student.yaml."""
    path = Path(config)
    return "_".join(filter(None, [path.parent.name.strip("."), path.stem])) + ".png"


def add_prepare(parser: Parser) -> None:
    """Write a data set in another form: uncompressed, smaller, or for a tool in which people correct labels."""
    parser.epilog = "Prints the key that trains on it."
    form = (
        "seg: the same pixels uncompressed, in Cityscapes' format; camvid: SegNet's folders, for configs/seg/camvid; "
    )
    form += "yolo, voc: boxes of COCO's format, as densedist label writes them, in YOLO's or Pascal VOC's"
    parser.add_argument("form", choices=["seg", "camvid", "yolo", "voc"], help=form)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the data set")
    add_output(parser, "output/prepared")
    parser.set_defaults(first=_first_of_prepare)


def _first_of_prepare(args: argparse.Namespace) -> None:
    from densedist.common.locks import refuse_files

    if args.form in ("yolo", "voc"):  # the others go on where they were ended
        refuse_files(args.output_dir, "--output-dir")


def prepare(args: argparse.Namespace) -> None:
    from densedist.common.locks import claimed
    from densedist.common.shell import quoted

    output = Path(args.output_dir)
    with claimed(output, "--output-dir"):
        wrote = _prepare(args.form, args.folder, output)
    name = output.absolute().name
    train = ["DATASETS.TRAIN", f"['{name}']"]
    keys = {
        "yolo": ["DATASETS.YOLO_FORMAT", f"[['{name}', '{output / 'data.yaml'}', 'train']]", *train],
        "voc": ["DATASETS.VOC_FORMAT", f"[['{name}', '{output}', 'train']]", *train],
    }
    print(f"{output}: {wrote}; train with {quoted(keys.get(args.form, ['DATASETS.ROOT', str(output)]))}")


def _prepare(form: str, source: Path, output: Path) -> str:
    """Write the data set, and return in words what was written."""
    if form in ("yolo", "voc"):
        from densedist.det.data.for_label_tools import FORMS

        return FORMS[form](source, output)
    if form == "camvid":
        from densedist.seg.data.camvid import prepare_camvid

        return f"{prepare_camvid(source, output)} frames"
    from densedist.seg.data import preparing

    count, there = preparing.prepare(source, output)
    return f"{count} files" + (f", {there} of which were there" if there else "")


def add_init(parser: Parser) -> None:
    """Write configs of a teacher and a student for a folder of data."""
    parser.epilog = "Prints the next commands. Never overwrites a file."
    text = "detection or segmentation; only needed if FOLDER has data for both"
    parser.add_argument("task", nargs="?", choices=["det", "seg", ""], default="", metavar="{det,seg}", help=text)
    text = "images with their labels: COCO, YOLO, Pascal VOC, Cityscapes, ADE20K, or folders of masks"
    parser.add_argument("folder", type=Path, metavar="FOLDER", help=text)
    add_output(parser, "", "output/NAME, where NAME is that of FOLDER")
    parser.set_defaults(first=_first_of_init)


def _first_of_init(args: argparse.Namespace) -> None:
    """Choose the folder to write to, and refuse one that is there."""
    from densedist.common.locks import refuse_there

    args.output_dir = args.output_dir or Path("output", args.folder.absolute().name)
    refuse_there(args.output_dir, "--output-dir")


def init(args: argparse.Namespace) -> None:
    from densedist.common.init.first_configs import begin, in_words
    from densedist.tasks import task_named

    tasks = [task_named(name) for name in ([args.task] if args.task else ["det", "seg"])]
    print(f"\n{in_words(begin(tasks, args.folder, args.output_dir))}")
