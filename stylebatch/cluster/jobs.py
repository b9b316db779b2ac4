"""From what a user asked for to a frozen job, or a refusal before any work."""

from stylebatch.job import DEFAULT_UNIT_SIZE, Job
from stylebatch.manifest import open_manifest, validate
from stylebatch.objectstore import ObjectStore, resolve_uri
from stylebatch.pair.weight_files import locate_weights
from stylebatch.pairs import resolve_locations
from stylebatch.recipe import Recipe
from stylebatch.results import RESERVED_COLUMNS
from stylebatch.synthesis.families import file_sha256


def make_job(
    store: ObjectStore, manifest: str, output: str, recipe: Recipe, unit_size: int = DEFAULT_UNIT_SIZE
) -> Job:
    """Check a manifest, find the weights, and freeze the job.

    Args:
        store: Where everything is.
        manifest: Location of the manifest, as the user wrote it.
        output: Location of the output folder, likewise.
        recipe: The recipe of rows that say nothing else.
        unit_size: Rows that are finished and published together.

    Raises:
        ManifestError: The manifest has problems; the message lists them.
        WeightsError: The weights are missing.
        StorageError: A location is not allowed or cannot be read.
    """
    opened = open_manifest(store, resolve_uri(manifest))
    recipe = resolve_locations(recipe)
    validate(opened, recipe, RESERVED_COLUMNS)
    sha256 = file_sha256(locate_weights(recipe, store), recipe.weights)
    return Job(opened, recipe, resolve_uri(output), sha256, unit_size)
