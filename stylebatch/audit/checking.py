"""Everything that is checked of one row: its recipe, its picture, its sources, its losses."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from stylebatch.audit.appearance import appearance_problems
from stylebatch.audit.files import SourceFiles, concerns_all, picture_problems
from stylebatch.audit.losses import (
    OTHER_DEVICE,
    SAME_DEVICE,
    disagreements,
    largest_difference,
    measured_losses,
)
from stylebatch.audit.remaking import make_again
from stylebatch.audit.rows import at_its_own_size, pair_of
from stylebatch.audit.verdict import Verdict, VerifyOptions
from stylebatch.errors import MemoryExceededError, StylebatchError, SynthesisError
from stylebatch.layout import image_sha256
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.batch import BatchRunner
from stylebatch.pair.loading import LoadedPair, Loader
from stylebatch.pair.memory import is_out_of_memory
from stylebatch.pairs import Pair
from stylebatch.pictures import fetch
from stylebatch.pictures.encoding import read_published
from stylebatch.recipe import FIELDS
from stylebatch.synthesis.vgg import VGG19

PICTURE_CACHE_BYTES = 256 * 2**20
"""For decoded sources."""

Row = Mapping[str, Any]


class RowChecker:
    """Checks rows one by one.

    Args:
        store: Where pictures and sources are.
        options: How they are checked.
        own: What makes pairs again; its network and targets serve here too.
        verdict: Told what was compared.
    """

    def __init__(
        self, store: ObjectStore, options: VerifyOptions, own: BatchRunner, verdict: Verdict
    ) -> None:
        self._store = store
        self._options = options
        self._own = own
        self._verdict = verdict
        self._sources = SourceFiles(store)
        self._loader = Loader(store, PICTURE_CACHE_BYTES, options.max_pixels)

    def problems(self, row: Row, unit: int, image: str, is_chosen: bool) -> list[str]:
        """What is wrong with a row.

        A picture, source or network that is another file is said once, and not measured.

        Args:
            row: A result row that is ``ok``.
            unit: Its unit.
            image: Where its picture must stand.
            is_chosen: Whether it is to be made again.

        Raises:
            StorageError: The storage cannot be asked.
        """
        found: list[str] = []
        try:
            for problems in self._looks(row, unit, image, is_chosen):
                found += problems
        except StylebatchError as error:
            if concerns_all(error):
                raise
            found.append(f"it cannot be checked any further: {error}")
        return found

    def _looks(self, row: Row, unit: int, image: str, is_chosen: bool) -> Iterator[list[str]]:
        """One look at the row after the other, as long as the next makes sense."""
        pair = pair_of(row)
        yield _recipe_problems(row, pair)
        of_image, pixels = self._picture(row, image)
        yield of_image
        of_sources = [*self._sources.problems(row, pair)]
        yield of_sources
        if of_sources:
            return
        network = self._own.network(pair.recipe)
        if network.sha256 != row["weights_sha256"]:
            yield [_other_weights(row, network)]
            return
        if pixels is not None:
            yield self._loss_problems(row, pair, network, pixels)
        if is_chosen:
            yield self._remaking_problems(row, pair, unit)

    def _picture(self, row: Row, uri: str) -> tuple[list[str], Tensor | None]:
        """What is wrong with a published picture, and its pixels if it is the one of the table."""
        try:
            data = fetch(self._store, uri)
            problems = [*picture_problems(row, data)]
            if image_sha256(data) != row["image_sha256"]:
                return problems, None
            pixels = read_published(data, uri)
        except StylebatchError as error:
            if concerns_all(error):
                raise
            return [f"its image cannot be read: {error}"], None
        height, width = pixels.shape[1:]
        if (width, height) != (row["width"], row["height"]):
            told = f"{row['width']} x {row['height']}"
            return [*problems, f"its image is {width} x {height} pixels, and {told} in the table"], None
        return problems, pixels

    def _loss_problems(self, row: Row, pair: Pair, network: VGG19, pixels: Tensor) -> list[str]:
        try:
            loaded = self._loaded(pair, pixels)
            found = measured_losses(network, self._own.targets, loaded, pixels)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MemoryExceededError(f"its losses do not fit into memory here: {error}") from error
        is_same_device = row["device"] == network.device.type
        problems = [*disagreements(row, found, SAME_DEVICE if is_same_device else OTHER_DEVICE)]
        self._verdict.recomputed += 1
        if not problems:
            difference = largest_difference(row, found)
            self._verdict.largest_difference = max(self._verdict.largest_difference, difference)
        return [*problems, *appearance_problems(row, loaded, pixels)]

    def _loaded(self, pair: Pair, pixels: Tensor) -> LoadedPair:
        """The sources of a picture, which must be as large as its recipe says."""
        loaded = self._loader.load(at_its_own_size(pair))
        if loaded.start.shape != pixels.shape:
            height, width = loaded.start.shape[1:]
            raise SynthesisError(f"its recipe makes a picture of {width} x {height} pixels, not this one")
        return loaded

    def _remaking_problems(self, row: Row, pair: Pair, unit: int) -> list[str]:
        remade = make_again(self._own, row, pair, unit, self._options.device)
        self._verdict.remade.append(remade)
        return [remade.problem] if remade.problem else []


def _recipe_problems(row: Row, pair: Pair) -> list[str]:
    """A recipe that was changed has another fingerprint; a table of an older version lacks some fields."""
    if not row.keys() >= FIELDS.keys() or pair.recipe.fingerprint == row["recipe_sha256"]:
        return []
    return [f"its recipe is not that of its recipe_sha256, {str(row['recipe_sha256'])[:16]}..."]


def _other_weights(row: Row, network: VGG19) -> str:
    return (
        f"the weights {row['weights']} are another file: their SHA-256 is {network.sha256[:16]}..., in the "
        f"table {str(row['weights_sha256'])[:16]}..."
    )
