"""From the weights that a recipe names to a network."""

from stylebatch.objectstore import ObjectStore
from stylebatch.pair.libraries import release_gpu_libraries
from stylebatch.pair.memory import free_unused
from stylebatch.pair.weight_files import locate_weights
from stylebatch.recipe import LAYERS, WEIGHT_NAMES, Recipe
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import read_weights


def load_network(recipe: Recipe, store: ObjectStore, device: str = "cpu", deepest: str = LAYERS[-1]) -> VGG19:
    """The network of a recipe, on a device, ready for :func:`stylebatch.synthesis.synthesize.synthesize`.

    Args:
        recipe: Names the weights.
        store: Where they may lie.
        device: Of torch.
        deepest: The deepest layer that will be asked for.

    Raises:
        WeightsError: The weights are missing, not a VGG-19, or of a family that is neither stated nor known.
    """
    path = locate_weights(recipe, store)
    family = recipe.weights_family or (recipe.weights if recipe.weights in WEIGHT_NAMES else None)
    network = VGG19(read_weights(path, family, recipe.weights), deepest).to(device)
    free_unused(network.device)  # the file's tensors
    if network.device.type == "cpu":
        release_gpu_libraries()
    return network


def reaches(network: VGG19, recipe: Recipe) -> bool:
    """Whether a network of a recipe's weights has all its layers."""
    return LAYERS.index(network.deepest) >= LAYERS.index(recipe.deepest_layer)
