"""What a worker needs for its first part, to be imported before that comes. Nobody calls anything here."""

# ruff: noqa: F401

import pyarrow.compute
import pyarrow.parquet
import threadpoolctl

import attrcloak.parts.parquet_part
import attrcloak.streaming.passes
