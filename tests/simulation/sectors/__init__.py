"""The disk of a simulated server down to its sectors, with the product's own storage on it.

- `device`: pages of sectors that a power cut keeps, loses or tears, and every other fault of a disk.
- `records`: the pages of one environment as LMDB's few calls show them, one table a sorted run of leaves.
- `paged_file`: LMDB's commit protocol on a device (copied pages, a sync, one of two meta pages, the watermark).
- `volume`: the directory of one server: its devices, and the stores of `kvraft/storage` opened on them.
- `disk`: what the simulated server sees: the record-level model of `tests/simulation/disk.py` as the oracle beside it.

The pages are not LMDB's to the byte: a tree has one level, and its root names every leaf. What matters is kept: no page
that the last commit reaches is overwritten, a meta page is one sector, nothing has a checksum but what kvraft adds.
"""
