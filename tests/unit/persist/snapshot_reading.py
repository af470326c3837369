"""How tests read a file of bytes. Apart from snapshot_bytes, which the fuzz targets use where nothing is built."""

from dfly._core.snapshot_file import SnapshotFile


def read(path, data, **options):
    """What the reader finds in a file of these bytes."""
    path.write_bytes(data)
    source = SnapshotFile(path, **options)
    while source.step():
        pass
    return source
