"""Finished jobs over the manifests of figures, whose pictures nobody had to compute."""

import io
from collections.abc import Callable, Collection
from typing import Any

import pyarrow as pa
from inmemory import MANIFEST, MemoryStore
from PIL import Image

from stylebatch.layout import Layout
from stylebatch.manifest import Manifest, open_manifest, validate, write_manifest
from stylebatch.manifest.schema import extra_schema
from stylebatch.objectstore import ObjectStore
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.results import RESERVED_COLUMNS, encode_part


def opened(table: pa.Table, store: ObjectStore | None = None, uri: str = MANIFEST) -> Manifest:
    """A design as a manifest that was written and found valid."""
    store = store or MemoryStore()
    write_manifest(store, uri, table)
    manifest = open_manifest(store, uri)
    validate(manifest, Recipe(), RESERVED_COLUMNS)
    return manifest


def pairs_of(table: pa.Table, recipe: Recipe | None = None) -> list[Pair]:
    """The pairs of a design that is valid."""
    pairs = list(opened(table).pairs(recipe or Recipe()))
    assert all(isinstance(pair, Pair) for pair in pairs)
    return pairs  # type: ignore[return-value]


def finish(
    store: ObjectStore,
    output: str,
    table: pa.Table,
    picture: Callable[[Pair], Image.Image],
    losses: Callable[[Pair], tuple[float, float]] = lambda pair: (1.0, 1.0),
    failed: Collection[str] = (),
) -> None:
    """Store the pictures and the part of a job over a design.

    Args:
        store: Where to.
        output: The job's output.
        table: The design.
        picture: What was made of a pair.
        losses: Its content and style loss.
        failed: The pair_ids that failed instead.
    """
    layout, rows = Layout(output), []
    for pair in pairs_of(table):
        row: dict[str, Any] = {
            **pair.recipe.to_dict(),
            "pair_id": pair.pair_id,
            "row": pair.row,
            "content": pair.content,
            "style": list(pair.styles) or None,
        }
        if pair.pair_id in failed:
            rows.append(row | {"status": "failed", "error_type": "PictureError", "error": "it is no picture"})
            continue
        image, uri = picture(pair), layout.image(0, pair.pair_id, ".png")
        store.put(uri, png(image))
        content_loss, style_loss = losses(pair)
        rows.append(
            row
            | {"status": "ok", "image": uri, "width": image.width, "height": image.height}
            | {"content_loss": content_loss, "style_loss": style_loss}
        )
    store.put(layout.part(0), encode_part(rows, table.select(extra_schema(table.schema).names)))


def png(image: Image.Image) -> bytes:
    """A picture as a file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
