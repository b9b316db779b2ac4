"""The targets of loaded pairs, computed once for each image, size, layer, pooling and network."""

from collections.abc import Callable, Sequence

from torch import Tensor

from stylebatch.pair.cache import ByteCache
from stylebatch.pair.loading import LoadedPair, SizedSource
from stylebatch.pair.memory import check_measuring_fits
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import Problem
from stylebatch.synthesis.targets import Targets, blend_styles, content_targets, style_targets
from stylebatch.synthesis.vgg import VGG19

Compute = Callable[[VGG19, Tensor, Sequence[str], str], dict[str, Tensor]]


class TargetCache:
    """Responses and Gram matrices by what they depend on; see :class:`ByteCache`.

    ``hits`` and ``misses`` count the targets, each of one image, size and layer, that were there when they
    were wanted, and that were not.
    """

    def __init__(self, capacity: int) -> None:
        self.hits = 0
        self.misses = 0
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Forget all targets."""
        self._cache: ByteCache[Tensor] = ByteCache(
            self._capacity, lambda tensor: tensor.element_size() * tensor.nelement()
        )

    def problem(self, network: VGG19, loaded: LoadedPair) -> Problem:
        """The problem of a pair, at each of its sizes: start image and targets, cached where possible.

        Raises:
            SynthesisError: An image is too small for the layers, or the shares do not fit the styles.
            MemoryExceededError: An image is too large to be measured here.
        """
        height, width = loaded.start.shape[1:]
        return self._problem(network, loaded, (height, width))

    def _problem(self, network: VGG19, loaded: LoadedPair, balance_size: tuple[int, int]) -> Problem:
        recipe, content = loaded.recipe, loaded.content
        content_part = (
            self._targets(content_targets, network, content, recipe.content_layers, recipe) if content else {}
        )
        style_parts = [
            self._targets(style_targets, network, style, recipe.style_layers, recipe)
            for style in loaded.styles
        ]
        targets = Targets(content_part, blend_styles(style_parts, recipe.style_blend))
        smaller = self._problem(network, loaded.smaller, balance_size) if loaded.smaller else None
        return Problem(recipe, targets, loaded.start, smaller, balance_size)

    def _targets(
        self, compute: Compute, network: VGG19, source: SizedSource, layers: Sequence[str], recipe: Recipe
    ) -> dict[str, Tensor]:
        """The targets of one image at some layers; all that are missing come from one forward pass."""
        shared_key = (
            compute.__name__,
            source.sha256,
            source.crop,
            tuple(source.pixels.shape),
            recipe.pooling,
            network.sha256,
            network.family,
        )
        found = {layer: self._cache.get((*shared_key, layer)) for layer in layers}
        missing = [layer for layer, tensor in found.items() if tensor is None]
        self.hits += len(found) - len(missing)
        self.misses += len(missing)
        if missing:
            height, width = source.pixels.shape[1:]
            check_measuring_fits(missing, width, height, network.device)
            fresh = compute(network, source.pixels, missing, recipe.pooling)
            for layer, tensor in fresh.items():
                self._cache.put((*shared_key, layer), tensor)
            found.update(fresh)
        return {layer: tensor for layer, tensor in found.items() if tensor is not None}
