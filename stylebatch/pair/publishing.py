"""From a solution to its published file, its record and its result row."""

import math
import posixpath
from collections.abc import Mapping
from typing import Any

import torch

import stylebatch
from stylebatch.errors import StorageError
from stylebatch.layout import Layout, encode_record, image_sha256
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.loading import REFERENCES, LoadedPair, named_images
from stylebatch.pairs import Pair
from stylebatch.pictures.encoding import encode
from stylebatch.recipe import FILE_SUFFIXES, Recipe
from stylebatch.synthesis.problems import Solution
from stylebatch.synthesis.vgg import VGG19
from stylebatch.work import Facts, source_facts


def solution_facts(network: VGG19, loaded: LoadedPair, solution: Solution) -> Facts:
    """What a picture is and how it was made, the same whenever and wherever the same work is done."""
    recipe = loaded.recipe
    return {
        **recipe.to_dict(),
        "recipe_sha256": recipe.fingerprint,
        "width": solution.image.shape[2],
        "height": solution.image.shape[1],
        "loss": _number(solution.loss),
        "content_loss": _number(solution.content_loss),
        "style_loss": _number(solution.style_loss),
        "layer_losses": {name: _number(loss) for name, loss in solution.layer_losses.items()},
        "solver_loss": _number(solution.solver_loss),
        "layer_residuals": dict(solution.layer_residuals),
        "loss_change": _number(solution.loss_change),
        "clipped_fraction": solution.clipped_fraction,
        "adjusted_clipped_fraction": solution.adjusted_clipped_fraction,
        "achieved": dict(solution.achieved),
        "evaluations": solution.evaluations,
        "smaller_evaluations": list(solution.smaller_evaluations),
        "stop_reason": str(solution.stop_reason),
        "content_sha256": loaded.content.sha256 if loaded.content else None,
        "style_sha256": [style.sha256 for style in loaded.styles],
        "start_sha256": loaded.start_sha256,
        **{f"{field}_sha256": _reference_sha256(loaded, field) for field in REFERENCES},
        "weights_sha256": network.sha256,
        "stylebatch_version": stylebatch.__version__,
        "torch_version": str(torch.__version__),  # its own type would make the driver import torch
    }


def _reference_sha256(loaded: LoadedPair, field: str) -> str | None:
    """Of an image that the recipe names by its location; content and style have columns of their own."""
    return loaded.references[field][0].sha256 if field in named_images(loaded.recipe) else None


def _number(value: float) -> float | None:
    """A loss as JSON can hold it: null where it is not finite."""
    return value if math.isfinite(value) else None


def encode_solution(solution: Solution, recipe: Recipe, provenance: Mapping[str, Any]) -> bytes:
    """The published file, with its provenance inside where the format can hold it."""
    return encode(solution.to_encode, recipe.format, recipe.quality, provenance)


def source_names(pair: Pair) -> Facts:
    """The pair's id and the names of its files, without their folders, which are nobody's business."""
    return {
        "start": posixpath.basename(pair.recipe.start),
        "weights": posixpath.basename(pair.recipe.weights),
        "histogram": posixpath.basename(pair.recipe.histogram or "") or None,
        "spectrum": posixpath.basename(pair.recipe.spectrum or "") or None,
        "pair_id": pair.pair_id,
        "content_name": posixpath.basename(pair.content) if pair.content else None,
        "style_names": [posixpath.basename(style) for style in pair.styles],
    }


def is_committed(store: ObjectStore, layout: Layout, unit: int, pair: Pair) -> bool:
    """Whether the pair's image is there. Where the storage does not say, :func:`publish` will find out."""
    try:
        return store.size(_image_uri(layout, unit, pair)) >= 0
    except StorageError:
        return False


def _image_uri(layout: Layout, unit: int, pair: Pair) -> str:
    return layout.image(unit, pair.pair_id, FILE_SUFFIXES[pair.recipe.format])


def publish(
    store: ObjectStore, layout: Layout, unit: int, pair: Pair, solution: Solution, facts: Facts, run: Facts
) -> Facts | None:
    """Put the record, then the image, which commits the pair.

    Args:
        store: Where the output is.
        layout: Names below it.
        unit: The pair's unit.
        pair: The pair.
        solution: Its picture.
        facts: :func:`solution_facts`.
        run: What this run adds to the result row: seconds, device, attempts.

    Returns:
        The result row; None if another attempt has committed the pair already.
    """
    data = encode_solution(solution, pair.recipe, {**facts, **source_names(pair)})
    sha256 = image_sha256(data)
    image = _image_uri(layout, unit, pair)
    row = {
        **source_facts(pair),
        **facts,
        **run,
        "status": "ok",
        "image": image,
        "image_sha256": sha256,
        "loss_curve": [_number(loss) for loss in solution.loss_curve],
    }
    store.put(layout.record(unit, pair.pair_id, sha256), encode_record(row))
    return row if store.put_if_absent(image, data) else None
