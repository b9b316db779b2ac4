"""One pair, without Ray: :func:`stylize` in memory, :func:`stylize_file` from and to storage."""

import functools
import hashlib
import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylebatch.objectstore import ObjectStore
from stylebatch.pair.finishing import finish
from stylebatch.pair.loading import LoadedPair, Loader, Source, named_images, size_sources
from stylebatch.pair.memory import (
    available_bytes,
    check_picture_fits,
    is_out_of_memory,
    picture_exceeds,
)
from stylebatch.pair.networks import load_network
from stylebatch.pair.outcomes import check_solution
from stylebatch.pair.publishing import encode_solution, solution_facts, source_names
from stylebatch.pair.targets import TargetCache
from stylebatch.pairs import Pair, resolve_locations
from stylebatch.pictures import DEFAULT_MAX_PIXELS, decode, fetch, from_array, from_pillow
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore
from stylebatch.synthesis.problems import Solution
from stylebatch.synthesis.synthesize import synthesize
from stylebatch.synthesis.vgg import VGG19

Picture = Image.Image | np.ndarray
"""A PIL image of any mode, or a uint8 array ``(H, W)``, ``(H, W, 3)`` or ``(H, W, 4)``."""

OnEvaluation = Callable[[int], None]
"""Called with the number of evaluations after each."""


def stylize(
    content: Picture | None,
    style: Picture | Sequence[Picture] | None,
    recipe: Recipe | None = None,
    *,
    weights: str | Path | VGG19 | None = None,
    device: str | None = None,
    on_evaluation: OnEvaluation = lambda evaluations: None,
) -> Solution:
    """Give a content image the appearance of one or several style images (Gatys, Ecker & Bethge 2015).

    Args:
        content: The content image; None synthesizes a texture of the style.
        style: The style image, or several (``recipe.style_blend`` weighs them); None reconstructs the
            content from ``recipe.content_layers``.
        recipe: Every number that decides the picture; None is the paper's.
        weights: A name or location of weights instead of ``recipe.weights``, or a loaded network.
        device: A torch device; None is the GPU if there is one, else the CPU.
        on_evaluation: Called with the number of evaluations after each.

    Returns:
        The solution; ``to_pillow(solution.image)`` is the picture. Its losses are those of that picture.

    Raises:
        PictureError: An image is not one.
        MemoryExceededError: There is not enough memory for a picture of this size.
        RecipeError: A value of the recipe is not allowed.
        SynthesisError: The images do not fit the recipe. A loss that turned infinite is no exception here:
            ``solution.stop_reason`` says so.
        WeightsError: The weights are missing or wrong.
    """
    recipe = recipe or Recipe()
    if isinstance(weights, str | Path):
        recipe = recipe.replace({"weights": str(weights)})
    recipe = resolve_locations(recipe)
    network = weights if isinstance(weights, VGG19) else _network(recipe, device)
    styles = [] if style is None else [style] if isinstance(style, Image.Image | np.ndarray) else style
    loaded = size_sources(
        recipe,
        None if content is None else _source(content),
        [_source(picture) for picture in styles],
        {location: _stored_source(location) for location in named_images(recipe).values()},
    )
    return _solve(network, loaded, on_evaluation)


def stylize_file(
    content: str | None,
    styles: Sequence[str],
    output: str,
    recipe: Recipe,
    store: ObjectStore,
    *,
    device: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_evaluation: OnEvaluation = lambda evaluations: None,
) -> Solution:
    """Stylize one stored image and store the picture, with recipe, losses and hashes inside the file.

    Args:
        content: Canonical URI; None for a texture.
        styles: Canonical URIs; none at all for a content reconstruction.
        output: Canonical URI of the file to write; its name should end as ``recipe.format`` asks.
        recipe: Every number that decides the picture.
        store: Where everything is.
        device: A torch device; None is the GPU if there is one, else the CPU.
        max_pixels: Of a source image; a larger one is refused before it is decoded.
        on_evaluation: Called with the number of evaluations after each.

    Returns:
        The solution.

    Raises:
        StylebatchError: Any of the tree; nothing is written then.
    """
    pair_id = posixpath.basename(output).partition(".")[0]
    pair = Pair(pair_id=pair_id, row=0, content=content, styles=tuple(styles), recipe=recipe)
    loaded = Loader(store, 0, max_pixels).load(pair)
    network = _network(recipe, device)
    solution = _solve(network, loaded, on_evaluation)
    check_solution(solution)
    facts = {**solution_facts(network, loaded, solution), **source_names(pair)}
    store.put(output, encode_solution(solution, recipe, facts))
    return solution


def _solve(network: VGG19, loaded: LoadedPair, on_evaluation: OnEvaluation) -> Solution:
    recipe, (height, width) = loaded.recipe, loaded.start.shape[1:]
    check_picture_fits(recipe, width, height, network.device)
    try:
        problem = TargetCache(capacity=0).problem(network, loaded)
        (solution,) = synthesize(
            network,
            [problem],
            publish=lambda image, number: finish(image, loaded),
            on_evaluation=on_evaluation,
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        available = available_bytes(network.device)
        raise picture_exceeds(recipe, width, height, network.device, available, str(error)) from error
    return solution


def _network(recipe: Recipe, device: str | None) -> VGG19:
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return _cached_network(recipe.weights, recipe.weights_family, chosen)


@functools.lru_cache(maxsize=1)
def _cached_network(weights: str, family: str | None, device: str) -> VGG19:
    """The network used last, so that a loop over :func:`stylize` loads it once."""
    return load_network(Recipe(weights=weights, weights_family=family), UriStore(), device)


def _source(picture: Picture) -> Source:
    image = from_array(picture) if isinstance(picture, np.ndarray) else from_pillow(picture)
    return Source(image, hashlib.sha256(image.tobytes()).hexdigest())


def _stored_source(uri: str) -> Source:
    data = fetch(UriStore(), uri)
    return Source(decode(data, uri), hashlib.sha256(data).hexdigest())
