"""The cells of one database taken into another, such as those that another machine has computed."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from .store import Store


def take_over(content: bytes, db: str | Path) -> None:
    """Write the networks, images and cells of a database into another one; what is there stays.

    Args:
        content: The bytes of a database that is closed.
        db: The database to write into; made if need be.

    Raises:
        ValueError: One of the two is not a database of results, or cannot be written.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "results.db"
        file.write_bytes(content)
        with Store(file, readonly=True) as given, Store(db) as store:
            overlaps = given.overlaps()
            for model, names in given.names().items():
                for name in names:
                    store.add_model(model, name, overlap=overlaps[model])
            for cell, outcome in given.cells():
                data = given.data(cell.data)
                store.add_data(data)
                images = len(range(cell.first, len(data.labels), cell.step))
                store.put(cell, replace(outcome, logits=given.logits(cell.key)), images=images)
