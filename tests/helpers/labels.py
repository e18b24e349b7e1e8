"""A labeling of files of text, in processes of their own that may be killed as they write."""

import io
import json
import os
import signal
import tarfile
import threading
from functools import partial
from pathlib import Path

from torch.multiprocessing import ProcessExitedException

from densedist.common.errors import UserError
from densedist.common.labeling import Labeling
from densedist.common.labels import shards as module
from densedist.common.labels.shards import begin
from densedist.common.labels.work import all_unreadable, fill_shards
from helpers.processes import run_processes


def read(file):
    text = Path(file).read_text()
    if text == "damaged":
        raise UserError(f"{file} is damaged")
    return text, len(text)


def see(items):
    return [{"id": item.number, "name": item.name, "text": item.sample, "together": len(items)} for item in items]


def label(labeling, workers=0):
    """Write all that is in shards to labels.json."""
    shards = begin(labeling, lambda: module.np.array([0.5]))
    if fill_shards(shards, labeling, list(labeling.images), read, see, workers):
        found = {"images": [image for content in shards.read() for image in content["images"]]}
        found["unreadable"] = all_unreadable(shards, labeling)
        (labeling.output / "labels.json").write_text(json.dumps(found))
        shards.remove()


def job(folder, output, **more):
    files = sorted(Path(folder).iterdir())
    return Labeling([], {file.stem: file for file in files}, Path(output), **{"shard": 3, **more})


def die_writing(rank, number, part):
    """Let this process, if it has the rank, be killed in its n-th shard, with a part of the bytes written."""
    from detectron2.utils import comm

    write, calls = module.write_text, iter(range(1, number + 1))

    def deadly(file, text):
        if file.name == module.JOB or next(calls) < number:
            write(file, text)
            return
        if part == 1:
            write(file, text)
        else:
            file.with_name(f"{file.name}.{os.getpid()}.tmp").write_text(text[: int(part * len(text))])
        os.kill(os.getpid(), signal.SIGKILL)

    if comm.get_rank() == rank:
        module.write_text = deadly


def die_after(rank, seconds):
    """Let this process, if it has the rank, be killed after so many seconds."""
    from detectron2.utils import comm

    if comm.get_rank() == rank:
        timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()


def in_processes(count, function, folder, output, *death):
    """function(folder, output) by so many processes; whether they came to an end, or were killed.

    Args:
        death: what die_writing takes, or die_after.
    """
    try:
        run_processes(count, _run, function, str(folder), str(output), death)
    except ProcessExitedException:
        return False
    return True


def _run(rank, count, function, folder, output, death):
    if death:
        (die_writing if len(death) == 3 else die_after)(*death)
    function(folder, output)


def label_by(weights, folder, output, **more):
    """A teacher labels the images of a folder, three at a time."""
    from densedist import api

    api.Labeling = partial(Labeling, shard=3)
    try:
        return api.label([weights], [folder], output_dir=output, resume=True, **more)
    finally:
        api.Labeling = Labeling


def contents(folder):
    """What the files of an output folder hold, but for its name and the seconds that it took."""
    found = {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}
    if page := found.get("labels.html"):
        found["labels.html"] = page.replace(f"Labels: {Path(folder).name}".encode(), b"Labels")
    return found | {"labels.json": json.loads(found["labels.json"]) | {"seconds": 0}}


def label_files(folder, output):
    label(job(folder, output, resume=True))


FILES = {"a/1.jpg": b"one", "a/1.json": b"{}", "2.PNG": b"two", "._2.png": b"hidden", "__note__": b""}


def write_tar(file, files=FILES, mode="w"):
    """A tar file of these contents by name, and of a link."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return str(file)
