"""The digits that come with scikit-learn: 1,797 images of 8×8, no download."""

import numpy as np

from jaxdiff.data.sources import Arrays, Dataset
from jaxdiff.extras import require

NUM_TEST = 297


def load_digits() -> Dataset:
    """Load the digits: 1,500 to train on and 297 to test on.

    Every 1797/297-th image is held out: the collection is ordered by writer, and this way both
    splits contain every writer. Grey levels 0..16 become bytes by round(255·v/16).

    Returns:
        A dataset of shape ``(8, 8, 1)`` with 10 classes.

    Example:
        >>> digits = load_digits()
        >>> len(digits.train), len(digits.test), digits.shape
        (1500, 297, (8, 8, 1))
    """
    require("sklearn", purpose="reading the digits")
    from sklearn.datasets import load_digits as read_digits

    raw = read_digits()
    x = np.rint(raw.images[..., None] * 255 / 16).astype(np.uint8)
    label = raw.target.astype(np.int32)
    held_out = ((np.arange(NUM_TEST) + 0.5) * len(x) / NUM_TEST).astype(int)
    kept = np.setdiff1d(np.arange(len(x)), held_out)
    train, test = (Arrays(x[i], label[i]) for i in (kept, held_out))
    return Dataset("digits", train, test, (8, 8, 1), 10)
