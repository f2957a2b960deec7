# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""The user's catalog: a file becomes target rows, every row numbered.

`open_file` finds the reader for what is in a file, `parquet_file`,
`parquet_directory`, `csv_file`, `fits_file` and `votable_file` stream its
columns, `columns` and `position_columns` find those that are needed, `lookup`
replaces positions that a catalog does not have, `census` looks at what must be
known before the first row (types of identifiers, sizes), `rows` checks each
row, and `table` puts them together.
"""

from __future__ import annotations

from .lookup import ObjectTables
from .table import Catalog, open_catalog

__all__ = ("Catalog", "ObjectTables", "open_catalog")
