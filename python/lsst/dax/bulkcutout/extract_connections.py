# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""What goes into the quantum of a patch, and what comes out."""

from __future__ import annotations

import dataclasses

from lsst.pex.config import DictField, Field, ListField
from lsst.pipe.base import PipelineTaskConfig, PipelineTaskConnections
from lsst.pipe.base import connectionTypes as cT

from .cutout_formatter import STORAGE_CLASS

__all__ = ("COMPANION_CONNECTIONS", "ExtractCutoutsConfig", "ExtractCutoutsConnections")

COMPANION_CONNECTIONS = {"variance": "variances", "weight": "weights", "mask": "masks", "psf": "psfs"}
"""Connection of each kind of companion of plain FITS images."""


def _companions(kind: str) -> cT.Input:
    # An image may lack one.
    return cT.Input(
        doc=f"The {kind} of each image, where it lies in a file of its own.",
        name=f"{{{kind}Type}}",
        storageClass="CellCoadd",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
        minimum=0,
    )


class ExtractCutoutsConnections(
    PipelineTaskConnections,
    dimensions=("skymap", "tract", "patch"),
    defaultTemplates={
        "datasetType": "deep_coadd",
        "varianceType": "unused_variance",
        "weightType": "unused_weight",
        "maskType": "unused_mask",
        "psfType": "unused_psf",
    },
):
    """Images of one patch in, a cutout dataset out.

    Notes
    -----
    Among the images are those of neighbouring patches, in quanta whose
    cutouts leave the images of their own.  They are told apart by data ID: a
    second connection of the same dataset type would be given all of them too.
    """

    images = cT.Input(
        doc="Coadded images of the patch and of neighbours that its cutouts reach, one for each band.",
        name="{datasetType}",
        storageClass="CellCoadd",
        dimensions=("skymap", "tract", "patch", "band"),
        multiple=True,
        deferLoad=True,
    )
    variances = _companions("variance")
    weights = _companions("weight")
    masks = _companions("mask")
    psfs = _companions("psf")
    cutouts = cT.Output(
        doc="Cutouts of all targets of the patch.",
        name="{datasetType}_bulk_cutouts",
        storageClass=STORAGE_CLASS,
        dimensions=("skymap", "tract", "patch"),
    )

    def __init__(self, *, config: ExtractCutoutsConfig | None = None) -> None:
        super().__init__(config=config)
        if config is not None:
            # The repository's own name for the class, which need not be one
            # that can be imported here: only the file is read.
            self.images = dataclasses.replace(self.images, storageClass=config.storage_class)
            for kind, name in COMPANION_CONNECTIONS.items():
                if kind in config.companions:
                    own = dataclasses.replace(getattr(self, name), storageClass=config.companions[kind])
                    setattr(self, name, own)
                else:
                    delattr(self, name)


class ExtractCutoutsConfig(PipelineTaskConfig, pipelineConnections=ExtractCutoutsConnections):
    """What the graph builder tells the task."""

    request_id = Field[str](doc="Name of the request, for logs.", default="")
    plan = Field[str](doc="URI of the campaign's plan; the targets are beside it.", default="")
    plan_sha256 = Field[str](doc="Checksum of the plan, hexadecimal.", default="")
    storage_class = Field[str](doc="Storage class that the repository gives the images.", default="CellCoadd")
    planes = ListField[str](
        doc="What to cut: image, variance, mask, psf, noise, mask_fraction.",
        default=["image", "variance", "mask", "psf"],
    )
    background = Field[str](
        doc="What is to be subtracted from the image: stored, none, or the name of a background model.",
        default="stored",
    )
    precision = Field[str](
        doc="How exact float planes are: exact, or sigma/N with a power of two.",
        default="exact",
    )
    companions = DictField[str, str](
        doc="Storage class that the repository gives each kind of companion.", default={}
    )
    mask_codes = DictField[str, int](
        doc="Codes of mask planes, where a mask holds one code a pixel.", default={}
    )
    max_memory_mb = Field[int](
        doc="Memory for pixels in MB; the image is cut in strips if need be.",
        default=512,
        check=lambda value: value >= 64,
    )
    threads = Field[int](
        doc="Threads that decode images. A job asks for one processor, so ask for more (requestCpus) first.",
        default=1,
        check=lambda value: value >= 1,
    )
