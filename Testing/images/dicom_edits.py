"""Changes to DICOM files that tests have written, and what reading them must say."""

from __future__ import annotations

import pydicom
import pytest

from SaliencyExplain.errors import InputError
from SaliencyExplain.images.reading import read_image


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


def refused(path, code, *named):
    with pytest.raises(InputError) as error:
        read_image(path)
    message = str(error.value)
    assert error.value.code is code, message
    for name in named:
        assert name in message
    assert "\n" not in message
    return message
