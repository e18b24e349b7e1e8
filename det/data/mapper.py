"""From a dataset dict to a training sample."""

from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import SizeMismatchError

from densedist.common.errors import UserError


class Mapper(DatasetMapper):
    """Detectron2's, with an image that cannot be read said in one line."""

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Raises:
            UserError: naming the image.
        """
        try:
            return super().__call__(dataset_dict)
        except (OSError, SyntaxError, SizeMismatchError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{dataset_dict['file_name']} cannot be read as its data set says: {reason}") from error
