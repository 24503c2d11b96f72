"""Good files of every format that is read, small ones, for the fuzzer to damage."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import highdicom
import nibabel
import numpy as np
import pydicom
import safetensors.torch
import SimpleITK as sitk
import torch
from monai.networks.nets import DenseNet
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    RTStructureSetStorage,
)

from Testing.fuzz.seed import PATIENT, Seed

RNG = np.random.default_rng(0)
SHAPE = (12, 10, 8)
VALUES = RNG.normal(100, 20, SHAPE).astype(np.int16)
LABELS = np.zeros(SHAPE, np.uint8)
LABELS[3:7, 3:7, 2:5] = 1
LABELS[8:10, 3:7, 2:5] = 2
#: Of the position (5, -4, 3) in LPS, and directions along its axes, as all files here have it.
AFFINE = np.array([[-1, 0, 0, -5], [0, -1, 0, 4], [0, 0, 2, 3], [0, 0, 0, 1.0]])


def all_seeds(folder: Path) -> list[Seed]:
    """All of them; `folder` is a place for files on the way."""
    makers: list[Callable[[Path], list[Seed]]] = [
        _nibabel,
        _text_headers,
        _pictures,
        _matlab,
        _dicom,
        _segmentations,
        _classifiers,
        _tables,
    ]
    seeds = []
    for maker in makers:
        place = folder / maker.__name__
        place.mkdir(parents=True, exist_ok=True)
        seeds += maker(place)
    return seeds


def _nibabel(folder: Path) -> list[Seed]:
    seeds = []
    for name, image in {
        "a.nii": nibabel.Nifti1Image(VALUES, AFFINE),
        "a.nii.gz": nibabel.Nifti1Image(VALUES, AFFINE),
        "b.nii": nibabel.Nifti2Image(VALUES, AFFINE),
        "a.mgh": nibabel.MGHImage(VALUES, AFFINE),
        "a.mgz": nibabel.MGHImage(VALUES, AFFINE),
    }.items():
        if name == "a.nii":
            image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"hello" * 8))
        nibabel.save(image, folder / name)
        kind = "mgh" if ".mg" in name else "nifti2" if name.startswith("b") else "nifti1"
        seeds.append(Seed(name, kind, "image", (folder / name).read_bytes()))
    labels = folder / "labels.nii.gz"
    nibabel.save(nibabel.Nifti1Image(LABELS, AFFINE), labels)
    seeds.append(Seed("labels.nii.gz", "nifti1", "segmentation", labels.read_bytes()))
    for kind, image in (
        ("nifti1", nibabel.Nifti1Pair(VALUES, AFFINE)),
        ("analyze", nibabel.Spm99AnalyzeImage(VALUES, AFFINE)),
    ):
        nibabel.save(image, folder / "pair.img")
        voxels = ("pair.img", (folder / "pair.img").read_bytes())
        content = (folder / "pair.hdr").read_bytes()
        seeds.append(Seed("pair.hdr", kind, "image", content, (voxels,)))
    return seeds


def _itk(values: NDArray[np.generic]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing((1.0, 1.0, 2.0))
    image.SetOrigin((5.0, -4.0, 3.0))
    return image


def _text_headers(folder: Path) -> list[Seed]:
    seeds = []
    for name, compressed in (
        ("a.nrrd", False),
        ("b.nrrd", True),
        ("a.mha", False),
        ("b.mha", True),
    ):
        sitk.WriteImage(_itk(VALUES), str(folder / name), useCompression=compressed)
        seeds.append(Seed(name, "text", "image", (folder / name).read_bytes()))
    for name, voxels in (("a.nhdr", "a.raw"), ("a.mhd", "a.raw")):
        sitk.WriteImage(_itk(VALUES), str(folder / name), useCompression=False)
        beside = ((voxels, (folder / voxels).read_bytes()),)
        seeds.append(Seed(name, "text", "image", (folder / name).read_bytes(), beside))
    segments = _itk(LABELS)
    for index, label in enumerate((1, 2)):
        segments.SetMetaData(f"Segment{index}_ID", f"s{index}")
        segments.SetMetaData(f"Segment{index}_Name", f"segment {index}")
        segments.SetMetaData(f"Segment{index}_LabelValue", str(label))
        segments.SetMetaData(f"Segment{index}_Layer", "0")
        segments.SetMetaData(f"Segment{index}_Color", "1 0.5 0")
    sitk.WriteImage(segments, str(folder / "a.seg.nrrd"), useCompression=True)
    seeds.append(Seed("a.seg.nrrd", "text", "segmentation", (folder / "a.seg.nrrd").read_bytes()))
    return seeds


def _pictures(folder: Path) -> list[Seed]:
    grey = RNG.integers(0, 256, SHAPE[1::-1], dtype=np.uint8)
    deep = RNG.integers(0, 65536, SHAPE[1::-1], dtype=np.uint16)
    colours = RNG.integers(0, 256, (*SHAPE[1::-1], 4), dtype=np.uint8)
    palette = Image.fromarray(colours[..., :3]).quantize(8)
    pictures = {
        "grey.png": Image.fromarray(grey),
        "deep.png": Image.fromarray(deep),
        "palette.png": palette,
        "alpha.png": Image.fromarray(colours),
        "grey.jpg": Image.fromarray(grey),
        "colour.jpg": Image.fromarray(colours[..., :3]),
        "grey.tif": Image.fromarray(grey),
        "deep.tif": Image.fromarray(deep),
        "real.tif": Image.fromarray(deep.astype(np.float32)),
        "palette.tif": palette,
        "grey.bmp": Image.fromarray(grey),
        "colour.bmp": Image.fromarray(colours[..., :3]),
    }
    for name, picture in pictures.items():
        picture.save(folder / name)
    Image.fromarray(colours[..., :3]).save(folder / "packed.tif", compression="tiff_lzw")
    Image.fromarray(grey).save(folder / "zip.tif", compression="tiff_adobe_deflate")
    for name in ("deep-colour.png", "deep-colour.tif"):
        image = sitk.GetImageFromArray(np.stack([deep] * 3, axis=-1), isVector=True)
        sitk.WriteImage(image, str(folder / name))
    mask = Image.fromarray(np.ascontiguousarray(LABELS[:, :, 3].T * 100))
    for suffix in ("png", "tif", "bmp"):
        mask.save(folder / f"mask.{suffix}")
    one = Image.fromarray(np.where(LABELS[:, :, 3].T == 1, 255, 0).astype(np.uint8))
    one.save(folder / "mask.jpg", quality=100)
    seeds = []
    for path in sorted(folder.iterdir()):
        kind = {"png": "png", "tif": "tiff", "jpg": "bytes", "bmp": "bytes"}[path.suffix[1:]]
        reader = "picture mask" if path.stem == "mask" else "image"
        seeds.append(Seed(path.name, kind, reader, path.read_bytes()))
    return seeds


def _matlab(folder: Path) -> list[Seed]:
    path = folder / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("cjdata")
        group["image"] = VALUES[..., 0]
        group["tumorMask"] = LABELS[..., 3]
        group["label"] = np.array([[1.0]])
        group["PID"] = np.array([[49], [50]], dtype=np.uint16)
    content = path.read_bytes()
    readers = ("image", "tumour mask", "tumour description")
    return [Seed("a.mat", "bytes", reader, content) for reader in readers]


def _dataset(sop_class: str, modality: str, uid: str) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, uid
    dataset.Modality, dataset.SeriesInstanceUID = modality, "1.2.3.6"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.3.4", "1.2.3.5"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = f"{PATIENT}^Name", "S1", ""
    dataset.PatientSex, dataset.StudyID, dataset.AccessionNumber = "", "", ""
    dataset.StudyDate = dataset.StudyTime = dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    return dataset


def _pixels(dataset: Dataset, stored: NDArray[np.int16]) -> Dataset:
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.PixelData = np.ascontiguousarray(stored, "<i2").tobytes()
    return dataset


def _slice(index: int) -> Dataset:
    dataset = _pixels(_dataset(CTImageStorage, "CT", f"1.2.3.7.{index}"), VALUES[..., index].T)
    dataset.ImagePositionPatient = [5, -4, 3 + 2 * index]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [1, 1], 2
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1000
    return dataset


def _written(dataset: Dataset, path: Path) -> bytes:
    dataset.save_as(path)
    return path.read_bytes()


def _dicom(folder: Path) -> list[Seed]:
    seeds = []
    for name, syntax in {
        "implicit": ImplicitVRLittleEndian,
        "deflated": DeflatedExplicitVRLittleEndian,
    }.items():
        dataset = _slice(0)
        dataset.file_meta.TransferSyntaxUID = syntax
        path = folder / f"{name}.dcm"
        seeds.append(Seed(path.name, "dicom", "image", _written(dataset, path)))
    for name, syntax in {
        "rle": RLELossless,
        "jpegls": JPEGLSLossless,
        "jpeg2000": JPEG2000Lossless,
    }.items():
        # The encoder of JPEG 2000 wants 64 pixels.
        dataset = _pixels(_slice(0), np.tile(VALUES[..., 0].T, (7, 6)))
        dataset.compress(syntax, generate_instance_uid=False)
        path = folder / f"{name}.dcm"
        seeds.append(Seed(path.name, "dicom", "image", _written(dataset, path)))
    slices = [_written(_slice(index), folder / "slice.dcm") for index in range(4)]
    beside = tuple((f"{index}.dcm", content) for index, content in enumerate(slices[1:], start=1))
    seeds += [Seed("0.dcm", "dicom", reader, slices[0], beside) for reader in ("folder", "cases")]
    film = _pixels(_dataset("1.2.840.10008.5.1.4.1.1.1", "CR", "1.2.3.8"), VALUES[..., 0].T)
    seeds.append(Seed("film.dcm", "dicom", "image", _written(film, folder / "film.dcm")))
    enhanced = folder / "enhanced.dcm"
    seeds.append(Seed("enhanced.dcm", "dicom", "image", _written(_enhanced(), enhanced)))
    return seeds


def _enhanced() -> Dataset:
    dataset = _dataset(EnhancedMRImageStorage, "MR", "1.2.3.9")
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1, 1], 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for index in range(4):
        frame, place = Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, 2 * index]
        frame.PlanePositionSequence = Sequence([place])
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.NumberOfFrames = 4
    return _pixels(dataset, VALUES[..., :4].transpose(2, 1, 0))


def _segmentations(folder: Path) -> list[Seed]:
    sources = [_slice(index) for index in range(SHAPE[2])]
    described = [
        highdicom.seg.SegmentDescription(
            number,
            f"segment {number}",
            codes.SCT.MorphologicallyAbnormalStructure,
            codes.SCT.Neoplasm,
            highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number in (1, 2)
    ]
    seg = highdicom.seg.Segmentation(
        sources,
        LABELS.transpose(2, 1, 0),
        highdicom.seg.SegmentationTypeValues.BINARY,
        described,
        series_instance_uid="1.2.3.10",
        series_number=2,
        sop_instance_uid="1.2.3.11",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    structures = _dataset(RTStructureSetStorage, "RTSTRUCT", "1.2.3.12")
    region, item = Dataset(), Dataset()
    region.ROINumber, region.ROIName = 1, "tumour"
    region.ReferencedFrameOfReferenceUID = "1.2.3.5"
    item.ReferencedROINumber, item.ROIDisplayColor = 1, [255, 0, 0]
    contours = []
    for height in (7, 9, 11):
        contour = Dataset()
        contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", 4
        corners = ((8, -1), (14, -1), (14, 4), (8, 4))
        contour.ContourData = [part for x, y in corners for part in (x, y, height)]
        contours.append(contour)
    item.ContourSequence = Sequence(contours)
    structures.StructureSetROISequence = Sequence([region])
    structures.ROIContourSequence = Sequence([item])
    return [
        Seed("seg.dcm", "dicom", "segmentation", _written(seg, folder / "seg.dcm")),
        Seed("rs.dcm", "dicom", "segmentation", _written(structures, folder / "rs.dcm")),
    ]


def _classifiers(folder: Path) -> list[Seed]:
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())
    torch.save(network.state_dict(), folder / "model.pt")
    weights = (folder / "model.pt").read_bytes()
    metadata = {
        "task": "classification",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "num_channels": 1,
                    "spatial_shape": [16, 16],
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "num_channels": 2,
                    "channel_def": {"0": "healthy", "1": "tumour"},
                }
            },
        },
    }
    inference = {
        "network_def": {
            "_target_": "DenseNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "init_features": 2,
            "growth_rate": 2,
            "block_config": [1],
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "LoadImaged", "keys": "image"},
                {"_target_": "Resized", "keys": "image", "spatial_size": [16, 16]},
                {"_target_": "ScaleIntensityd", "keys": "image"},
            ],
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "keys": "pred", "softmax": True}],
        },
    }  # fmt: skip
    torch.manual_seed(0)
    small = DenseNet(2, 1, 2, init_features=2, growth_rate=2, block_config=(1,))
    torch.save(small.state_dict(), folder / "small.pt")
    files = {
        "configs/metadata.json": json.dumps(metadata, indent=1).encode(),
        "configs/inference.json": json.dumps(inference, indent=1).encode(),
        "models/model.pt": (folder / "small.pt").read_bytes(),
    }
    torch.save(network, folder / "old.pt", _use_new_zipfile_serialization=False)
    seeds = [
        Seed("weights.pt", "zip", "weights", weights),
        Seed("old.pt", "bytes", "weights", (folder / "old.pt").read_bytes()),
        Seed("weights.pkl", "bytes", "weights", pickle.dumps(network.state_dict())),
        Seed(
            "weights.safetensors",
            "bytes",
            "weights",
            safetensors.torch.save(dict(network.state_dict())),
        ),
    ]
    for name, content in files.items():
        kind = "json" if name.endswith("json") else "zip"
        beside = tuple((other, files[other]) for other in files if other != name)
        seeds.append(Seed(name, kind, "bundle", content, beside))
    return seeds


def _tables(folder: Path) -> list[Seed]:
    text = "case,image,segmentation,label\none,a.nii,,tumour\ntwo,b.nii,,healthy\n"
    image = folder / "a.nii"
    nibabel.save(nibabel.Nifti1Image(VALUES, AFFINE), image)
    beside = (("a.nii", image.read_bytes()), ("b.nii", image.read_bytes()))
    return [Seed("cases.csv", "bytes", "table", text.encode(), beside)]
