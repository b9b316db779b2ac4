"""The targets of loaded pairs, computed once for each image, size, layer, pooling and network."""

from collections.abc import Callable, Sequence

from torch import Tensor

from stylebatch.pair.cache import ByteCache
from stylebatch.pair.loading import LoadedPair, SizedSource
from stylebatch.pair.memory import check_measuring_fits
from stylebatch.recipe import Recipe
from stylebatch.synthesis.synthesize import Problem
from stylebatch.synthesis.targets import Targets, blend_styles, content_targets, style_targets
from stylebatch.synthesis.vgg import VGG19

Compute = Callable[[VGG19, Tensor, Sequence[str], str], dict[str, Tensor]]


class TargetCache:
    """Responses and Gram matrices by what they depend on; see :class:`ByteCache`."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        """Forget all targets."""
        self.cache: ByteCache[Tensor] = ByteCache(
            self._capacity, lambda tensor: tensor.element_size() * tensor.nelement()
        )

    def problem(self, network: VGG19, loaded: LoadedPair) -> Problem:
        """The problem of a pair: its targets, from the cache where they are there, and its start image.

        Raises:
            SynthesisError: An image is too small for the layers, or the shares do not fit the styles.
            MemoryExceededError: An image is too large to be measured here.
        """
        recipe, content = loaded.recipe, loaded.content
        content_part = (
            self._targets(content_targets, network, content, recipe.content_layers, recipe) if content else {}
        )
        style_parts = [
            self._targets(style_targets, network, style, recipe.style_layers, recipe)
            for style in loaded.styles
        ]
        targets = Targets(content_part, blend_styles(style_parts, recipe.style_blend))
        return Problem(recipe, targets, loaded.start)

    def _targets(
        self, compute: Compute, network: VGG19, source: SizedSource, layers: Sequence[str], recipe: Recipe
    ) -> dict[str, Tensor]:
        """The targets of one image at some layers; all that are missing come from one forward pass."""
        shared_key = (
            compute.__name__,
            source.sha256,
            tuple(source.pixels.shape),
            recipe.pooling,
            network.sha256,
            network.family,
        )
        found = {layer: self.cache.get((*shared_key, layer)) for layer in layers}
        missing = [layer for layer, tensor in found.items() if tensor is None]
        if missing:
            height, width = source.pixels.shape[1:]
            check_measuring_fits(missing, width, height, network.device)
            fresh = compute(network, source.pixels, missing, recipe.pooling)
            for layer, tensor in fresh.items():
                self.cache.put((*shared_key, layer), tensor)
            found.update(fresh)
        return {layer: tensor for layer, tensor in found.items() if tensor is not None}
