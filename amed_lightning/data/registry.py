"""The datasets that configurations call by name."""

from collections.abc import Callable

from amed_lightning.data.digits import digits_set
from amed_lightning.data.fashion_mnist import fashion_mnist_set
from amed_lightning.data.folder import image_files
from amed_lightning.data.images import ImageSet
from amed_lightning.data.torchvision_sets import torchvision_set

DATASETS: dict[str, Callable[..., ImageSet]] = {
    "digits": digits_set,
    "fashion_mnist": fashion_mnist_set,
    "images": image_files,
    "torchvision": torchvision_set,
}
