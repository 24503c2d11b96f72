"""A small result folder of nnU-Net v2, as its trainer writes it."""

from __future__ import annotations

import importlib
import json
import pydoc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

CLASSES = {"background": 0, "organ": 1, "tumour": 2}


def plans(axes: int = 3) -> dict[str, Any]:
    """Plans for two channels, CT and MR, with axes in an order of their own."""
    name = "3d_fullres" if axes == 3 else "2d"
    configuration = {
        "data_identifier": "nnUNetPlans",
        "preprocessor_name": "DefaultPreprocessor",
        "patch_size": [8, 16, 16][-axes:],
        "spacing": [3.0, 1.25, 1.5][-axes:],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, True],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {
            "is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None,
        },
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {
            "is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None,
        },
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 8, 8],
                "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
                "kernel_sizes": [[1, 3, 3][-axes:], [3] * axes, [3] * axes],
                "strides": [[1] * axes, [1, 2, 2][-axes:], [2] * axes],
                "n_conv_per_stage": [1, 1, 1],
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    properties = {"mean": 0.5, "std": 0.2, "percentile_00_5": 0.1, "percentile_99_5": 0.9}
    return {
        "dataset_name": "Dataset999_Made",
        "plans_name": "nnUNetPlans",
        "original_median_shape_after_transp": [20 if axes == 3 else 1, 24, 16],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2] if axes == 3 else [0, 1, 2],
        "transpose_backward": [1, 0, 2] if axes == 3 else [0, 1, 2],
        "configurations": {name: configuration},
        "foreground_intensity_properties_per_channel": {"0": properties, "1": properties},
    }


def made_network(described: dict[str, Any]) -> nn.Module:
    """The network of the plans' architecture with random weights, as nnU-Net builds it."""
    unet = importlib.import_module("dynamic_network_architectures.architectures.unet")
    arguments = dict(described["arch_kwargs"])
    for name in described["_kw_requires_import"]:
        arguments[name] = pydoc.locate(arguments[name]) if arguments[name] else None
    torch.manual_seed(0)
    built: nn.Module = unet.PlainConvUNet(
        input_channels=2, num_classes=3, deep_supervision=False, **arguments
    )
    return built.eval()


#: Changes plans and data set before they are written.
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def result_folder(folder: Path, change: Change | None = None, axes: int = 3) -> Path:
    """Writes the folder, with random weights.

    Args:
        folder: Is made.
        change: Changes plans and data set before they are written.
        axes: 2 or 3.
    """
    content, dataset = plans(axes), {
        "channel_names": {"0": "CT", "1": "T1"},
        "labels": dict(CLASSES),
        "file_ending": ".nii.gz",
    }  # fmt: skip
    (name, configuration), = content["configurations"].items()  # fmt: skip
    network = made_network(configuration["architecture"])
    if change is not None:
        change(content, dataset)
    fold = folder / "fold_0"
    fold.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(content))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    torch.save(
        {
            "network_weights": network.state_dict(),
            "optimizer_state": {},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)]},
            "_best_ema": np.float32(0.5),
            "current_epoch": 1,
            "init_args": {"configuration": name, "fold": 0, "device": torch.device("cpu")},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        },
        fold / "checkpoint_final.pth",
    )
    return folder
