"""The referee: whether what the suite reads of data is what its author wrote.

Readers and their tests are by the same hands, so a mistake of thought is in both. Here nothing of the suite's own
readers or writers is used for the truth: scenes are drawn by NumPy (scenes.py), written by other people's libraries
(writers/), varied in everything that a format allows, perhaps damaged (damage.py), and handed over as a user would, by
a config file. One thing is asserted (judge.py, judge_det.py, judge_seg.py): what is read equals the truth, or it is
refused in one line before training. A difference in silence is a failure, a traceback is one, and so is a refusal of
what a writer writes by default, or varies in one choice that every reader understands.

"What is read" is what training and scoring are given, and what `densedist check` counts:

- the pixels, boxes, masks and labels of each training sample, without augmentation; a scene is found by its pixels,
- the scores of perfect predictions, and of predictions with one planted error, beside those of pycocotools and of a
  confusion matrix by NumPy,
- the names of classes in results, and the number of images, objects and pixels.

A situation (situations.py) is a form, such as "masks by Pillow", and the choices in which it differs from the form's
default, so that Hypothesis shrinks a failure to the one choice that matters, and prints it by name.

- A writer: a function in writers/ of (world, folder, choices) that gives Handed, and a Form with its choices in the
  tuple FORMS of its file. The first value of a choice is the default; a value in `may` may be refused.
- A damage: an entry of damage.py.

    uv run pytest tests/referee                                             # some hundred situations a task
    REFEREE_EXAMPLES=5000 uv run pytest tests/referee -m slow -n 0 -s       # thousands, from a seed that is printed

Teachers and sequences of commands have their truth elsewhere:

- authors.py: networks of other authors in the forms in which they hand them on; the truth is what the network itself
  gives in float64, pixel by pixel. det_authors/ the same for detectors, part by part and in whole inference.
- workshop.py, commands.py: a user's folder that changes between commands in one output folder; the truth is the same
  command in a fresh one. Training has a stand-in that reads all that training reads, and comes to another number for
  every other bit of it.
"""
