"""Features of images: averaged responses and Gram matrices, measured by one network.

The representations are the paper's: responses F of a layer for the content, and their Gram matrix for the
style (equation 3), here as vectors of one length for images of any size.
"""

import itertools
import math
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stylebatch.errors import (
    CredentialsError,
    MemoryExceededError,
    StorageFullError,
    StylebatchError,
    SynthesisError,
)
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.feature_request import (
    FeatureSettings,
    content_column,
    gram_column,
    triangle_length,
)
from stylebatch.pair.loading import Loader, SizedSource
from stylebatch.pair.memory import check_measuring_fits, free_unused, is_out_of_memory
from stylebatch.pair.meter import Meter, MeteredStore
from stylebatch.pair.monitor import Monitor
from stylebatch.pair.networks import load_network
from stylebatch.pair.sparse_projection import SparseProjection
from stylebatch.pairs import Pair
from stylebatch.pictures import DEFAULT_MAX_PIXELS
from stylebatch.recipe import LAYERS
from stylebatch.synthesis.layers import layer_channels, layer_sides
from stylebatch.synthesis.losses import gram_matrix
from stylebatch.synthesis.projection import largest_batch
from stylebatch.synthesis.vgg import VGG19
from stylebatch.work import Facts

READERS = 4
"""Threads that fetch and decode images."""
READ_AHEAD = 8
"""Images that are fetched and decoded while others are measured."""


@torch.no_grad()
def measure(network: VGG19, images: Tensor, settings: FeatureSettings) -> Iterator[tuple[str, Tensor]]:
    """The features of images, but for weights and projections of Gram matrices.

    Args:
        network: Its weights are those of the settings.
        images: ``(B, 3, H, W)``, RGB, 0..255.
        settings: Which features.

    Yields:
        A column's name and ``(B, length)``: of a content layer the means of F over each cell of the grid,
        filter by filter and there row by row, ``N grid^2`` numbers; of a Gram layer the entries of G/M on and
        above the diagonal, row by row, ``N (N + 1) / 2`` numbers.

    Raises:
        SynthesisError: The images are too small for a layer or the grid.
    """
    height, width = images.shape[-2:]
    wanted = settings.measured_layers
    for layer, responses in network.each_response(images.to(network.device), wanted, settings.pooling):
        if layer in settings.content_layers:
            _check_grid(settings.grid, layer, height, width)
            yield content_column(layer), functional.adaptive_avg_pool2d(responses, settings.grid).flatten(1)
        if layer in settings.layers:
            yield gram_column(layer), upper_triangle(gram_matrix(responses))
        del responses  # before the next ones are made


def _check_grid(grid: int, layer: str, height: int, width: int) -> None:
    rows, columns = layer_sides(height, width, layer)
    if min(rows, columns) < grid:
        raise SynthesisError(
            f"a picture of {width} x {height} pixels has {columns} x {rows} positions at {layer}, too few "
            f"for a grid of {grid} x {grid} cells; use a larger size, a smaller grid or shallower layers"
        )


def upper_triangle(matrices: Tensor) -> Tensor:
    """The entries on and above the diagonal, row by row: ``(B, N, N)`` to ``(B, N (N + 1) / 2)``."""
    rows, columns = torch.triu_indices(*matrices.shape[1:], device=matrices.device)
    return matrices[:, rows, columns]


def off_diagonal_weights(layer: str) -> np.ndarray:
    """Factors of an upper triangle that make its distances those of whole matrices (Frobenius norm).

    Each entry beside the diagonal stands for two equal ones, so it is multiplied by sqrt(2).
    """
    channels = layer_channels(layer)
    weights = np.full(triangle_length(layer), math.sqrt(2), np.float32)
    row_lengths = np.arange(channels, 0, -1)
    weights[np.cumsum(row_lengths) - row_lengths] = 1  # each row begins on the diagonal
    return weights


class GramProjections:
    """What becomes of the upper triangles of some settings: weighted and projected, or as they are."""

    def __init__(self, settings: FeatureSettings) -> None:
        weighted = settings.layers if settings.is_weighted else ()
        self._weights = {gram_column(layer): off_diagonal_weights(layer) for layer in weighted}
        self._matrices = {
            gram_column(layer): SparseProjection(
                triangle_length(layer), settings.project, settings.project_seed, LAYERS.index(layer)
            )
            for layer in weighted
            if settings.project is not None and settings.is_projected(layer)
        }

    def __call__(self, column: str, vectors: np.ndarray) -> np.ndarray:
        """A column of features ``(B, length)`` as the table holds it."""
        if column in self._weights:
            vectors = vectors * self._weights[column]
        return self._matrices[column](vectors) if column in self._matrices else vectors


@dataclass(frozen=True)
class _Image:
    """An image on its way, or why it is none."""

    uri: str
    source: SizedSource | None
    error: str | None = None

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width at which it is measured; None if it is not."""
        if self.source is None:
            return None
        height, width = self.source.pixels.shape[1:]
        return height, width


class FeatureMeasurer:
    """Fetches images and measures them with one network; images of one shape share forward passes.

    Args:
        settings: Which features.
        store: Where images, and perhaps weights, are.
        device: Of torch.
        threads: Of torch.
        max_pixels: Of an image; a larger one is refused before it is decoded.
        most: The most images in one forward pass; None decides by size.
        monitor: Is told of everything that is done.
        meter: Adds up what it spends.

    Raises:
        WeightsError: The weights are missing or wrong.
    """

    def __init__(
        self,
        settings: FeatureSettings,
        store: ObjectStore,
        device: str = "cpu",
        threads: int = 1,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        most: int | None = None,
        monitor: Monitor | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._settings = settings
        self._threads = threads
        self._most = most
        self._monitor = monitor or Monitor()
        self._meter = meter or Meter()
        store = MeteredStore(store, self._meter)
        self._loader = Loader(store, 0, max_pixels)
        self._network = load_network(settings.recipe, store, device, settings.recipe.deepest_layer)
        self._projections = GramProjections(settings)

    def rows(self, uris: Sequence[str]) -> list[Facts]:
        """A row of the table for each image, in order; one that cannot be measured says why.

        Raises:
            StorageError: The storage does not answer or does not know us, which no image is to blame for.
        """
        torch.set_num_threads(self._threads)  # which counts for the calling thread alone
        rows: list[Facts] = []
        for shape, images in itertools.groupby(self._read_ahead(uris), lambda image: image.shape):
            most = self._batch_size(shape)
            while batch := list(itertools.islice(images, most)):
                rows += self._measured(batch) if shape else [_failed_row(one, one.error) for one in batch]
                self._monitor.advance()
        return rows

    def _batch_size(self, shape: tuple[int, int] | None) -> int:
        if shape is None:
            return 1
        fitting = largest_batch(*shape, is_gpu=self._network.device.type == "cuda")
        return min(fitting, self._most or fitting)

    def _read_ahead(self, uris: Sequence[str]) -> Iterator[_Image]:
        """The images in order; a few are fetched before they are asked for."""
        waiting: deque[Future[_Image]] = deque()
        with ThreadPoolExecutor(READERS, thread_name_prefix="images") as readers:
            for uri in uris:
                waiting.append(readers.submit(self._load, uri))
                if len(waiting) > READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _load(self, uri: str) -> _Image:
        pair = Pair(pair_id="image", row=0, content=uri, styles=(), recipe=self._settings.recipe)
        try:
            with self._meter.timed("fetch_seconds"):
                image = _Image(uri, self._loader.load(pair).content)
        except StylebatchError as error:
            if error.can_retry or isinstance(error, CredentialsError | StorageFullError):
                raise
            image = _Image(uri, None, str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            image = _Image(
                uri, None, f"{uri} does not fit into the memory of {socket.gethostname()}: {error}"
            )
        self._monitor.advance()
        return image

    def _measured(self, batch: Sequence[_Image]) -> list[Facts]:
        """The rows of images of one shape; where a batch does not fit into memory, one after the other."""
        try:
            return self._measured_together(batch)
        except (SynthesisError, MemoryExceededError) as error:
            return [_failed_row(image, str(error)) for image in batch]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            shortage = str(error)
        free_unused(self._network.device)  # outside the handler, which holds on to what did not fit
        if len(batch) > 1:
            return [row for image in batch for row in self._measured([image])]
        return [_failed_row(batch[0], f"there is not enough memory to measure this image: {shortage}")]

    def _measured_together(self, batch: Sequence[_Image]) -> list[Facts]:
        sources = [image.source for image in batch if image.source is not None]
        height, width = sources[0].pixels.shape[1:]
        check_measuring_fits(self._settings.measured_layers, width, height, self._network.device)
        images = torch.stack([source.pixels for source in sources])
        with self._meter.timed("synthesize_seconds"):
            columns = {
                column: self._projections(column, values.cpu().numpy())
                for column, values in measure(self._network, images, self._settings)
            }
        return [
            {
                "image": image.uri,
                "sha256": source.sha256,
                "width": width,
                "height": height,
                **_row_of(columns, number),
            }
            for number, (image, source) in enumerate(zip(batch, sources, strict=True))
        ]


def _row_of(columns: Mapping[str, np.ndarray], number: int) -> Facts:
    return {column: values[number] for column, values in columns.items()}


def _failed_row(image: _Image, error: str | None) -> Facts:
    return {"image": image.uri, "error": error}
