"""The catalogue of named data sets: torchvision's class, its splits, the files that it reads, and their archives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Archive:
    """A file to download."""

    url: str
    folder: str = "."  # the folder below the data folder that it is put into
    md5: str | None = None  # its md5 sum, or None if none is published

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]


def _by_train() -> dict[str, dict[str, Any]]:
    """Arguments by split for torchvision's classes that take `train`, which is True or False."""
    return {"train": {"train": True}, "test": {"train": False}}


@dataclass(frozen=True)
class NamedSource:
    """A named data set: its source, and how torchvision reads it."""

    torchvision_class: str  # the name of its class in torchvision.datasets
    needs: tuple[str, ...]  # files or folders below the data folder; if all are there, so is the data set
    splits: dict[str, dict[str, Any]] = field(default_factory=_by_train)  # arguments of torchvision's class by split
    archives: tuple[Archive, ...] = ()
    size: int | None = None  # default side in pixels, where images differ in size or would not fit into memory
    classes: tuple[str, ...] | None = None  # names that replace torchvision's, so that they equal those of other sets
    transposed: bool = False  # whether torchvision returns images with rows and columns exchanged
    downloads: bool = True  # whether torchvision can download it
    page: str = ""  # page with instructions to get it by hand, where there is no archive


def _by_split(train: str = "train", test: str | None = "test", val: str | None = None) -> dict[str, dict[str, Any]]:
    """Arguments by split for torchvision's classes that take `split`, given its value for each split that exists."""
    names = {"train": train, "val": val, "test": test}
    return {split: {"split": name} for split, name in names.items() if name is not None}


def _idx(folder: str, mirror: str, md5s: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of NamedSource for a data set in MNIST's format, which has four files."""
    files = [f"{part}-{what}-ubyte" for part in ("train", "t10k") for what in ("images-idx3", "labels-idx1")]
    archives = tuple(Archive(f"{mirror}{f}.gz", f"{folder}/raw", md5) for f, md5 in zip(files, md5s, strict=True))
    return {"torchvision_class": folder, "needs": tuple(f"{folder}/raw/{f}" for f in files), "archives": archives}


_DIGITS = tuple("0123456789")
_VGG = "https://www.robots.ox.ac.uk/~vgg/data"
_GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
_QMNIST = "https://raw.githubusercontent.com/facebookresearch/qmnist/master"
_USPS = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass"
_PCAM = [f"camelyonpatch_level_2_split_{split}_{what}.h5" for split in ("train", "valid", "test") for what in "xy"]

CATALOGUE: dict[str, NamedSource] = {
    "cifar10": NamedSource(
        "CIFAR10",
        ("cifar-10-batches-py",),
        archives=(
            Archive("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", md5="c58f30108f718f92721af3b95e74349a"),
        ),
    ),
    "cifar100": NamedSource(
        "CIFAR100",
        ("cifar-100-python",),
        archives=(
            Archive("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", md5="eb9058c3a382ffc7106e4002c42a8d85"),
        ),
    ),
    "stl10": NamedSource(
        "STL10",
        tuple(f"stl10_binary/{file}.bin" for file in ("train_X", "train_y", "test_X", "test_y")),
        _by_split(),
        (Archive("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", md5="91f7769df0f17e558f3565bffb0c7dfb"),),
    ),
    "svhn": NamedSource(
        "SVHN",
        ("train_32x32.mat", "test_32x32.mat"),
        _by_split(),
        (
            Archive("http://ufldl.stanford.edu/housenumbers/train_32x32.mat", md5="e26dedcc434d2e4c54c9b2d4a06d8373"),
            Archive("http://ufldl.stanford.edu/housenumbers/test_32x32.mat", md5="eb5a983be6a315427106f1b164d9cef3"),
        ),
        classes=_DIGITS,
    ),
    "mnist": NamedSource(
        classes=_DIGITS,
        **_idx(
            "MNIST",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
    ),
    "fashionmnist": NamedSource(
        **_idx(
            "FashionMNIST",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
        ),
    ),
    "kmnist": NamedSource(
        **_idx(
            "KMNIST",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            (
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
        ),
    ),
    "emnist": NamedSource(
        "EMNIST",
        tuple(
            f"EMNIST/raw/emnist-balanced-{part}-{what}-ubyte"
            for part in ("train", "test")
            for what in ("images-idx3", "labels-idx1")
        ),
        {split: {"split": "balanced", **kwargs} for split, kwargs in _by_train().items()},
        (
            Archive(
                "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
                "EMNIST/raw",
                "58c8d27c78d21e728a6bc7b3cc06412e",
            ),
        ),
        transposed=True,
    ),
    "qmnist": NamedSource(
        "QMNIST",
        tuple(
            f"QMNIST/raw/qmnist-{part}-{what}"
            for part in ("train", "test")
            for what in ("images-idx3-ubyte", "labels-idx2-int")
        ),
        archives=(
            Archive(f"{_QMNIST}/qmnist-train-images-idx3-ubyte.gz", "QMNIST/raw", "ed72d4157d28c017586c42bc6afe6370"),
            Archive(f"{_QMNIST}/qmnist-train-labels-idx2-int.gz", "QMNIST/raw", "0058f8dd561b90ffdd0f734c6a30e5e4"),
            Archive(f"{_QMNIST}/qmnist-test-images-idx3-ubyte.gz", "QMNIST/raw", "1394631089c404de565df7b7aeaf9412"),
            Archive(f"{_QMNIST}/qmnist-test-labels-idx2-int.gz", "QMNIST/raw", "5b5b05890a5e13444e108efe57b788aa"),
        ),
        classes=_DIGITS,
    ),
    "usps": NamedSource(
        "USPS",
        ("usps.bz2", "usps.t.bz2"),
        archives=(
            Archive(f"{_USPS}/usps.bz2", md5="ec16c51db3855ca6c91edd34d0e9b197"),
            Archive(f"{_USPS}/usps.t.bz2", md5="8ea070ee2aca1ac39742fdd1ef5ed118"),
        ),
        classes=_DIGITS,
    ),
    "food101": NamedSource(
        "Food101",
        ("food-101/meta", "food-101/images"),
        _by_split(),
        (Archive("http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz", md5="85eeb15f3717b99a5da872d97d918f87"),),
        size=64,
    ),
    "oxfordiiitpet": NamedSource(
        "OxfordIIITPet",
        ("oxford-iiit-pet/images", "oxford-iiit-pet/annotations"),
        _by_split("trainval"),
        (
            Archive(f"{_VGG}/pets/data/images.tar.gz", "oxford-iiit-pet", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
            Archive(f"{_VGG}/pets/data/annotations.tar.gz", "oxford-iiit-pet", "95a8c909bbe2e81eed6a22bccdf3f68f"),
        ),
        size=64,
    ),
    "fgvcaircraft": NamedSource(
        "FGVCAircraft",
        ("fgvc-aircraft-2013b",),
        _by_split(val="val"),
        (Archive(f"{_VGG}/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"),),
        size=64,
    ),
    "flowers102": NamedSource(
        "Flowers102",
        ("flowers-102/jpg", "flowers-102/imagelabels.mat", "flowers-102/setid.mat"),
        _by_split(val="val"),
        (
            Archive(f"{_VGG}/flowers/102/102flowers.tgz", "flowers-102", "52808999861908f626f3c1f4e79d11fa"),
            Archive(f"{_VGG}/flowers/102/imagelabels.mat", "flowers-102", "e0620be6f572b9609742df49c70aed4d"),
            Archive(f"{_VGG}/flowers/102/setid.mat", "flowers-102", "a5357ecc9cb78c4bef273ce3793fc85c"),
        ),
        size=64,
    ),
    "dtd": NamedSource(
        "DTD",
        ("dtd/dtd",),
        _by_split(val="val"),
        (Archive(f"{_VGG}/dtd/download/dtd-r1.0.1.tar.gz", "dtd", "fff73e5086ae6bdbea199a49dfb8a4c1"),),
        size=64,
    ),
    "gtsrb": NamedSource(
        "GTSRB",
        ("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
        _by_split(),
        (
            Archive(f"{_GTSRB}/GTSRB-Training_fixed.zip", "gtsrb", "513f3c79a4c5141765e10e952eaa2478"),
            Archive(f"{_GTSRB}/GTSRB_Final_Test_Images.zip", "gtsrb", "c7e4e6327067d32654124b0fe9e82185"),
            Archive(f"{_GTSRB}/GTSRB_Final_Test_GT.zip", "gtsrb", "fe31e9c9270bbcd7b84b7f21a9d9d9e5"),
        ),
        size=32,
    ),
    "eurosat": NamedSource(
        "EuroSAT",
        ("eurosat/2750",),
        {"all": {}},
        (
            Archive(
                "https://huggingface.co/datasets/torchgeo/eurosat/resolve/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
                "eurosat",
                "c8fa014336c82ac7804f0398fcb19387",
            ),
        ),
    ),
    "country211": NamedSource(
        "Country211",
        ("country211",),
        _by_split(val="valid"),
        (
            Archive(
                "https://openaipublic.azureedge.net/clip/data/country211.tgz", md5="84988d7644798601126c29e9877aab6a"
            ),
        ),
        size=64,
    ),
    "renderedsst2": NamedSource(
        "RenderedSST2",
        ("rendered-sst2",),
        _by_split(val="val"),
        (
            Archive(
                "https://openaipublic.azureedge.net/clip/data/rendered-sst2.tgz",
                md5="2384d08e9dcfa4bd55b324e610496ee5",
            ),
        ),
        size=64,
    ),
    "pcam": NamedSource(
        "PCAM",
        tuple(f"pcam/{file}" for file in _PCAM),
        _by_split(val="val"),
        size=32,
        classes=("no tumour", "tumour"),
        page="github.com/basveeling/pcam",
    ),
    "stanfordcars": NamedSource(
        "StanfordCars",
        (
            "stanford_cars/devkit",
            "stanford_cars/cars_train",
            "stanford_cars/cars_test",
            "stanford_cars/cars_test_annos_withlabels.mat",
        ),
        _by_split(),
        size=64,
        downloads=False,
        page="github.com/pytorch/vision/issues/7545",
    ),
    "caltech101": NamedSource(
        "Caltech101",
        ("caltech101/101_ObjectCategories",),
        {"all": {}},
        (
            Archive(
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "caltech101",
                "3138e1922a9193bfa496528edbbc45d0",
            ),
        ),
        size=64,
    ),
    "imagenette": NamedSource(
        "Imagenette",
        ("imagenette2-160",),
        {"train": {"split": "train", "size": "160px"}, "test": {"split": "val", "size": "160px"}},
        (
            Archive(
                "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
                md5="e793b78cc4c9e9a4ccc0c1155377a412",
            ),
        ),
        size=64,
    ),
}
