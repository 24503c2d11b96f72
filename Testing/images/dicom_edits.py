"""Changes to DICOM files that tests have written."""

from __future__ import annotations

import pydicom


def change(path, function):
    dataset = pydicom.dcmread(path)
    function(dataset)
    dataset.save_as(path)
    return path


def without(*keywords):
    def function(dataset):
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)

    return function


def setting(**elements):
    def function(dataset):
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)

    return function
